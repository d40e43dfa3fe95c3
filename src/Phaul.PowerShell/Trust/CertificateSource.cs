// What -Certificate and -TrustedCertificate take: paths, fingerprints, or certificates that are loaded already.

using System.Management.Automation;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.PowerShell.Trust;

/// <summary>Turns what a user gives into this host's certificate and the fingerprints of its peers.</summary>
internal static class CertificateSource
{
    /// <summary>The directory below that of the host's certificate in which each file is a trusted peer.</summary>
    private const string TrustedDirectory = "trusted";

    /// <summary>This host's certificate with its key.</summary>
    /// <param name="value">A directory, a PEM file, a certificate, or null for the host's own.</param>
    /// <param name="fullPath">Makes a path of the user's absolute.</param>
    /// <exception cref="CertificateSourceException">There is none, or it cannot be used.</exception>
    public static X509Certificate2 Own(object? value, Func<string?, string?> fullPath)
    {
        switch (Unwrap(value))
        {
            case null:
                return Load(HostCertificate.DefaultDirectory, null);
            case X509Certificate2 { HasPrivateKey: true } certificate:
                return certificate;
            case X509Certificate2 certificate:
                throw new CertificateSourceException(
                    "CertificateWithoutKey", $"The certificate '{certificate.Subject}' has no private key.",
                    "Give this host's own certificate, with its key; New-PhaulCertificate makes one.", certificate);
            case var path:
                return Load(fullPath(path.ToString())!, path);
        }
    }

    /// <summary>The fingerprints of the peers to trust.</summary>
    /// <param name="values">Fingerprints, paths and certificates; null for what lies in the host's trusted directory.</param>
    /// <param name="fullPath">Makes a path of the user's absolute.</param>
    /// <exception cref="CertificateSourceException">One of them is nothing of that.</exception>
    public static IReadOnlyList<string> Fingerprints(object[]? values, Func<string?, string?> fullPath)
    {
        if (values is null)
        {
            string trusted = Path.Combine(HostCertificate.DefaultDirectory, TrustedDirectory);
            return Directory.Exists(trusted) ? [.. FromDirectory(trusted)] : File.Exists(trusted) ? FromFile(trusted) : [];
        }

        return [.. values.Select(Unwrap).SelectMany(value => value switch
        {
            null => [],
            X509Certificate2 certificate => [HostCertificate.Fingerprint(certificate)],
            string text when IsFingerprint(text) => [Normalize(text, text)],
            _ => FromPath(fullPath(value.ToString())!, value),
        }).Distinct(StringComparer.OrdinalIgnoreCase)];
    }

    private static object? Unwrap(object? value) => value is PSObject wrapped ? wrapped.BaseObject : value;

    private static X509Certificate2 Load(string path, object? value)
    {
        try
        {
            return HostCertificate.Load(Directory.Exists(path) ? Path.Combine(path, HostCertificate.CertificateFileName) : path);
        }
        catch (PhaulException wrong)
        {
            throw new CertificateSourceException(
                "CertificateNotUsable", wrong.Message,
                value is null
                    ? "Make a certificate for this host with New-PhaulCertificate, or name another with -Certificate."
                    : "Name the directory or PEM file that New-PhaulCertificate made.",
                value ?? path, wrong);
        }
    }

    // What somebody meant as a fingerprint is said to be a wrong one, not a missing file
    private static bool IsFingerprint(string text) =>
        text.Length >= 40 && !text.Contains('/') && text.Count(char.IsAsciiHexDigit) >= 40;

    private static IEnumerable<string> FromPath(string path, object value)
    {
        if (Directory.Exists(path))
        {
            return FromDirectory(path);
        }

        if (!File.Exists(path))
        {
            throw new CertificateSourceException(
                "TrustedCertificateNotFound", $"'{value}' is neither a SHA-256 fingerprint (64 hexadecimal digits) nor a file.",
                "Give the fingerprint that New-PhaulCertificate showed on the other host, or the path of its certificate.", value);
        }

        return FromFile(path);
    }

    private static IEnumerable<string> FromDirectory(string directory) => Directory.EnumerateFiles(directory).Order().SelectMany(FromFile);

    // A certificate in PEM, or a list of fingerprints, one a line, # for remarks
    private static IReadOnlyList<string> FromFile(string path)
    {
        try
        {
            if (new FileInfo(path).Length > 1 << 20)
            {
                throw new InvalidDataException("it is larger than 1 MiB");
            }

            string text = File.ReadAllText(path);
            if (text.Contains("-----BEGIN CERTIFICATE-----", StringComparison.Ordinal))
            {
                using X509Certificate2 certificate = X509Certificate2.CreateFromPem(text);
                return [HostCertificate.Fingerprint(certificate)];
            }

            return [.. text.Split('\n')
                .Select(line => line.Split('#')[0].Trim())
                .Where(line => line.Length > 0)
                .Select(line => Normalize(line, path))];
        }
        catch (Exception wrong) when (wrong is IOException or InvalidDataException or UnauthorizedAccessException or CryptographicException)
        {
            throw new CertificateSourceException(
                "TrustedCertificateNotUsable", $"{path} holds no certificate and no list of fingerprints: {wrong.Message}",
                "Put the other host's certificate there, or its fingerprint.", path, wrong);
        }
    }

    private static string Normalize(string fingerprint, object value)
    {
        try
        {
            return HostCertificate.NormalizeFingerprint(fingerprint);
        }
        catch (PhaulException wrong)
        {
            throw new CertificateSourceException(
                "FingerprintNotUsable", wrong.Message,
                "Copy the fingerprint that New-PhaulCertificate showed on the other host.", value, wrong);
        }
    }
}
