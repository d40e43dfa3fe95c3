// The options by which two hosts know each other; the same for every command that connects or listens.

using System.CommandLine;
using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.Cli.Arguments;

/// <summary>--certificate, --key, --trust, --insecure-loopback.</summary>
internal sealed class PeerArguments
{
    private readonly Option<string?> _certificate = new("--certificate")
    {
        Description = $"This host's certificate, PEM or PKCS #12, or the directory of phaul.crt [default: {HostCertificate.DefaultDirectory}]",
        HelpName = "FILE|DIR",
    };

    private readonly Option<string?> _key = new("--key")
    {
        Description = "The certificate's private key, PEM [default: in the certificate's file, or beside it with the extension .key]",
        HelpName = "FILE",
    };

    private readonly Option<string[]> _trust = new("--trust")
    {
        Description = "A certificate that the other host may show: its SHA-256 fingerprint, a file with certificates (PEM) or with " +
            $"fingerprints, one a line, or a directory of such files. Can be given more than once [default: {TrustedPeers.DefaultPath}]",
        HelpName = "FINGERPRINT|FILE|DIR",
    };

    private readonly Option<bool> _insecureLoopback = new("--insecure-loopback")
    {
        Description = "Neither TLS nor authentication; refused unless the address is a loopback address",
    };

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Add(_certificate);
        command.Add(_key);
        command.Add(_trust);
        command.Add(_insecureLoopback);
    }

    /// <summary>Reads what was given, and the host's own for what was not.</summary>
    /// <param name="arguments">The parsed command line.</param>
    /// <param name="overTcp">False for UNIX sockets, which need none of it.</param>
    /// <exception cref="PhaulException">A file is missing or is not what it should be.</exception>
    public Peers Read(ParseResult arguments, bool overTcp)
    {
        var insecure = arguments.GetValue(_insecureLoopback);
        if (insecure || !overTcp)
            return new Peers(null, [], insecure);
        string[] trusted = arguments.GetValue(_trust) is { Length: > 0 } given
            ? [.. given.SelectMany(one => TrustedPeers.Read(one))]
            : [.. TrustedPeers.ReadDefault()];
        return new Peers(HostCertificate.Load(arguments.GetValue(_certificate), arguments.GetValue(_key)), trusted, insecure);
    }

    /// <summary>
    /// Reads what was given, all of which may be missing: whoever settles a migration may not have to speak to anybody, and trusts
    /// the certificate that the other host showed in it.
    /// </summary>
    /// <exception cref="PhaulException">A file that was named is missing or is not what it should be.</exception>
    public Peers ReadIfGiven(ParseResult arguments)
    {
        string[] trusted = [.. (arguments.GetValue(_trust) ?? []).SelectMany(one => TrustedPeers.Read(one))];
        var named = arguments.GetValue(_certificate);
        var usual = Path.Combine(HostCertificate.DefaultDirectory, HostCertificate.CertificateFileName);
        var certificate = named is not null || File.Exists(usual) ? HostCertificate.Load(named, arguments.GetValue(_key)) : null;
        return new Peers(certificate, trusted, arguments.GetValue(_insecureLoopback));
    }
}

/// <summary>Who we are and whom we trust.</summary>
/// <param name="Certificate">This host's certificate with its key; null without TLS.</param>
/// <param name="TrustedFingerprints">The certificates that the other host may show.</param>
/// <param name="InsecureLoopback">Neither TLS nor authentication.</param>
internal sealed record Peers(X509Certificate2? Certificate, IReadOnlyList<string> TrustedFingerprints, bool InsecureLoopback) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Certificate?.Dispose();
}
