// Who this side is and whom it believes: its certificate and the fingerprints of the peers it accepts.

using System.Security.Cryptography.X509Certificates;

namespace Phaul.Transport;

internal sealed class PinnedIdentity
{
    private readonly HashSet<string> _trusted;
    private readonly TimeProvider _time;

    /// <exception cref="PhaulException">InvalidRequest: no private key, no fingerprints, or one that is none.</exception>
    public PinnedIdentity(X509Certificate2 certificate, IReadOnlyList<string> trustedFingerprints, TimeProvider time)
    {
        if (!certificate.HasPrivateKey)
            throw new PhaulException(PhaulErrorId.InvalidRequest, "This host's certificate has no private key.");
        if (trustedFingerprints.Count == 0)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, "No other host is trusted: there is not one certificate fingerprint.")
            {
                RecommendedAction = "Put the fingerprint that New-PhaulCertificate or phaul new-certificate showed on the other host into a file in "
                    + $"{TrustedPeers.DefaultPath}, or give it with -TrustedCertificate / --trust.",
            };
        }

        Certificate = certificate;
        Fingerprint = HostCertificate.Fingerprint(certificate);
        _trusted = [.. trustedFingerprints.Select(HostCertificate.NormalizeFingerprint)];
        _time = time;
    }

    public X509Certificate2 Certificate { get; }

    public string Fingerprint { get; }

    /// <summary>Null if the peer is who it should be; otherwise why it is not.</summary>
    public PeerRejection? Judge(X509Certificate? presented)
    {
        if (presented is null)
            return new PeerRejection(
                "it presented no certificate", "no certificate was presented", "Give the peer a certificate: phaul new-certificate.");
        using var certificate = new X509Certificate2(presented);
        string fingerprint = HostCertificate.Fingerprint(certificate);
        if (!_trusted.Contains(fingerprint))
        {
            return new PeerRejection(
                $"its certificate has the SHA-256 fingerprint {fingerprint}, "
                + $"which is not among the {_trusted.Count} trusted here ({Some()})",
                $"the certificate with the SHA-256 fingerprint {fingerprint} is not trusted there",
                $"If that is the right host (compare the fingerprint there), trust {fingerprint}.");
        }

        DateTimeOffset now = _time.GetUtcNow();
        if (now > certificate.NotAfter)
        {
            string expired = $"certificate {fingerprint} expired on {certificate.NotAfter.ToUniversalTime():u}";
            return new PeerRejection($"its {expired}", $"the {expired}", "Make a new certificate on that host and trust its fingerprint.");
        }

        if (now < certificate.NotBefore)
        {
            string early = $"certificate {fingerprint} is not valid before {certificate.NotBefore.ToUniversalTime():u}";
            return new PeerRejection($"its {early}", $"the {early}", "Compare the clocks of both hosts.");
        }

        return null;
    }

    private string Some() => string.Join(", ", _trusted.Take(3)) + (_trusted.Count > 3 ? ", …" : "");
}

/// <summary>Why a peer's certificate was not accepted.</summary>
/// <param name="Reason">As the end of a sentence about the peer, for this side.</param>
/// <param name="ToldToPeer">As the end of a sentence for the peer: only what it presented itself, not who else is trusted.</param>
/// <param name="Action">What to do if the peer is right.</param>
internal sealed record PeerRejection(string Reason, string ToldToPeer, string Action);
