// TLS 1.3 with both certificates pinned: no authorities, no names, no resumption.

using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;

namespace Phaul.Transport;

internal static class TlsHandshake
{
    /// <summary>The connecting side. A server that is not the pinned one hears nothing more from us.</summary>
    /// <exception cref="PhaulException">AuthenticationFailed.</exception>
    public static async Task<(Stream Stream, Link Link)> ConnectAsync(
        CarrierStream carrier, PinnedIdentity identity, string peer, CancellationToken cancellationToken)
    {
        PeerRejection? rejection = null;
        string? fingerprint = null;
        var tls = new SslStream(carrier, leaveInnerStreamOpen: true);
        try
        {
            await tls.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions
                {
                    EnabledSslProtocols = SslProtocols.Tls13,
                    ClientCertificateContext = SslStreamCertificateContext.Create(identity.Certificate, null, offline: true),
                    RemoteCertificateValidationCallback = (_, certificate, _, _) =>
                    {
                        rejection = identity.Judge(certificate);
                        fingerprint = certificate is null ? null : Fingerprint(certificate);
                        return rejection is null;
                    },
                    CertificateChainPolicy = NoChain(),
                    AllowRenegotiation = false,
                    AllowTlsResume = false,
                },
                cancellationToken).ConfigureAwait(false);
            return (tls, new Link(peer, identity.Fingerprint, fingerprint));
        }
        catch (Exception exception) when (exception is AuthenticationException or IOException)
        {
            await tls.DisposeAsync().ConfigureAwait(false);
            throw rejection is null ? Failed(peer, exception) : Rejected(peer, rejection, exception);
        }
        catch
        {
            await tls.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>
    /// The listening side. TLS itself lets any certificate pass here, and the pinned ones are told from the others right
    /// afterwards, before a byte of what the peer sent is read: a peer that is refused can thus be told why.
    /// </summary>
    /// <exception cref="PhaulException">AuthenticationFailed.</exception>
    public static async Task<(Stream Stream, Link Link)> AcceptAsync(
        CarrierStream carrier, PinnedIdentity identity, string peer, CancellationToken cancellationToken)
    {
        var tls = new SslStream(carrier, leaveInnerStreamOpen: true);
        try
        {
            await tls.AuthenticateAsServerAsync(
                new SslServerAuthenticationOptions
                {
                    EnabledSslProtocols = SslProtocols.Tls13,
                    ServerCertificateContext = SslStreamCertificateContext.Create(identity.Certificate, null, offline: true),
                    ClientCertificateRequired = true,
                    RemoteCertificateValidationCallback = (_, _, _, _) => true,
                    CertificateChainPolicy = NoChain(),
                    AllowRenegotiation = false,
                    AllowTlsResume = false,
                },
                cancellationToken).ConfigureAwait(false);
            if (identity.Judge(tls.RemoteCertificate) is { } rejection)
            {
                await RefuseAsync(tls, carrier, rejection, cancellationToken).ConfigureAwait(false);
                throw Rejected(peer, rejection, null);
            }

            return (tls, new Link(peer, identity.Fingerprint, Fingerprint(tls.RemoteCertificate!)));
        }
        catch (Exception exception) when (exception is AuthenticationException or IOException)
        {
            await tls.DisposeAsync().ConfigureAwait(false);
            throw Failed(peer, exception);
        }
        catch
        {
            await tls.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    // Says why, then listens until the peer has hung up (it has at most sent a Hello): closing at once would reset the
    // connection, and the reason would be lost with it.
    private static async Task RefuseAsync(
        SslStream tls, CarrierStream carrier, PeerRejection rejection, CancellationToken cancellationToken)
    {
        const int MostToDiscard = FrameHeader.Size + FrameHeader.MaxHelloLength;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(TimeSpan.FromSeconds(2));
        try
        {
            await HelloExchange.RefuseAsync(tls, rejection, limit.Token).ConfigureAwait(false);
            await tls.ShutdownAsync().WaitAsync(limit.Token).ConfigureAwait(false);
            carrier.ShutdownSend();
            var discarded = new byte[4096];
            for (int total = 0; total < MostToDiscard;)
            {
                int count = await tls.ReadAsync(discarded, limit.Token).ConfigureAwait(false);
                if (count == 0)
                    return;
                total += count;
            }
        }
        catch (Exception exception) when (exception is IOException or OperationCanceledException)
        {
            // It did not wait for the reason.
        }
    }

    // The chain means nothing here, and building it must not make us fetch what a stranger's certificate names.
    private static X509ChainPolicy NoChain() => new()
    {
        TrustMode = X509ChainTrustMode.CustomRootTrust,
        RevocationMode = X509RevocationMode.NoCheck,
        VerificationFlags = X509VerificationFlags.AllFlags,
        DisableCertificateDownloads = true,
    };

    private static string Fingerprint(X509Certificate certificate)
    {
        using var copy = new X509Certificate2(certificate);
        return HostCertificate.Fingerprint(copy);
    }

    private static PhaulException Rejected(string peer, PeerRejection rejection, Exception? cause) =>
        new(PhaulErrorId.AuthenticationFailed, $"{peer} is not accepted: {rejection.Reason}.", cause)
        {
            Host = peer,
            RecommendedAction = rejection.Action,
        };

    private static PhaulException Failed(string peer, Exception cause) =>
        new(
            PhaulErrorId.AuthenticationFailed,
            $"The TLS handshake with {peer} failed: {cause.Message}{(cause.InnerException is { } inner ? $" ({inner.Message})" : "")}",
            cause)
        {
            Host = peer,
            RecommendedAction = "Both sides need a certificate, TLS 1.3, and the other's fingerprint among those they trust.",
        };
}
