// The options by which two hosts know each other; the same for every command that connects or listens.

using System.CommandLine;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.Cli.Arguments;

/// <summary>--certificate, --key, --trust, --insecure-loopback.</summary>
internal sealed class PeerArguments
{
    // A list of fingerprints or a certificate; nothing that is longer is meant to be one
    private const int LongestTrustFile = 1 << 20;

    private readonly Option<string?> _certificate = new("--certificate")
    {
        Description = $"This host's certificate, PEM or PKCS #12 [default: phaul.crt in {HostCertificate.DefaultDirectory}]",
        HelpName = "FILE",
    };

    private readonly Option<string?> _key = new("--key")
    {
        Description = "The certificate's private key, PEM [default: in the certificate's file, or beside it with the extension .key]",
        HelpName = "FILE",
    };

    private readonly Option<string[]> _trust = new("--trust")
    {
        Description = "A certificate that the other host may show: its SHA-256 fingerprint, or a file with the certificate (PEM) or " +
            "with fingerprints, one a line. Can be given more than once",
        HelpName = "FINGERPRINT|FILE",
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

    /// <summary>Reads what was given.</summary>
    /// <param name="arguments">The parsed command line.</param>
    /// <param name="overTcp">False for UNIX sockets, which need none of it.</param>
    /// <exception cref="PhaulException">A file is missing or is not what it should be.</exception>
    public Peers Read(ParseResult arguments, bool overTcp)
    {
        var insecure = arguments.GetValue(_insecureLoopback);
        var trusted = (arguments.GetValue(_trust) ?? []).SelectMany(FingerprintsOf).ToArray();
        var certificatePath = arguments.GetValue(_certificate);
        if (insecure || (!overTcp && certificatePath is null))
            return new Peers(null, trusted, insecure);
        if (trusted.Length == 0)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, "no certificate of the other host is trusted")
            {
                RecommendedAction = "pass the fingerprint that `phaul new-certificate` printed on the other host with --trust",
            };
        }

        certificatePath ??= Path.Combine(HostCertificate.DefaultDirectory, HostCertificate.CertificateFileName);
        return new Peers(HostCertificate.Load(certificatePath, arguments.GetValue(_key)), trusted, insecure);
    }

    private static IEnumerable<string> FingerprintsOf(string fingerprintOrFile) =>
        File.Exists(fingerprintOrFile) ? FingerprintsIn(fingerprintOrFile) : [HostCertificate.NormalizeFingerprint(fingerprintOrFile)];

    private static IEnumerable<string> FingerprintsIn(string path)
    {
        try
        {
            if (new FileInfo(path).Length > LongestTrustFile)
                throw new PhaulException(PhaulErrorId.InvalidRequest, $"{path} is too long for a certificate or a list of fingerprints");
            var text = File.ReadAllText(path);
            if (text.Contains("-----BEGIN CERTIFICATE-----", StringComparison.Ordinal))
            {
                var certificates = new X509Certificate2Collection();
                certificates.ImportFromPem(text);
                return [.. certificates.Select(HostCertificate.Fingerprint)];
            }

            var lines = text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Where(line => line[0] != '#');
            return [.. lines.Select(HostCertificate.NormalizeFingerprint)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, $"--trust {path} cannot be read: {e.Message}", e);
        }
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
