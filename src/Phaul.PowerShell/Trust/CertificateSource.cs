// What -Certificate and -TrustedCertificate take: paths, fingerprints, or certificates that are loaded already.

using System.Management.Automation;
using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.PowerShell.Trust;

/// <summary>Turns what a user gives into this host's certificate and the fingerprints of its peers.</summary>
internal static class CertificateSource
{
    /// <summary>This host's certificate with its key.</summary>
    /// <param name="value">A directory, a file, a certificate, or null for the host's own.</param>
    /// <param name="fullPath">Makes a path of the user's absolute.</param>
    /// <exception cref="CertificateSourceException">There is none, or it cannot be used.</exception>
    public static X509Certificate2 Own(object? value, Func<string, string> fullPath)
    {
        switch (Unwrap(value))
        {
            case X509Certificate2 { HasPrivateKey: true } certificate:
                return certificate;
            case X509Certificate2 certificate:
                throw new CertificateSourceException(
                    "CertificateWithoutKey", $"The certificate '{certificate.Subject}' has no private key.",
                    "Give this host's own certificate, with its key; New-PhaulCertificate makes one.", certificate);
            case var path:
                return Read("CertificateNotUsable", path, () => HostCertificate.Load(path is null ? null : fullPath(path.ToString()!)));
        }
    }

    /// <summary>The fingerprints of the peers to trust.</summary>
    /// <param name="values">Fingerprints, paths and certificates; null for those that the host trusts anyway.</param>
    /// <param name="fullPath">Makes a path of the user's absolute.</param>
    /// <exception cref="CertificateSourceException">One of them is nothing of that.</exception>
    public static IReadOnlyList<string> Fingerprints(object[]? values, Func<string, string> fullPath)
    {
        const string ErrorId = "TrustedCertificateNotUsable";
        return values is null
            ? Read(ErrorId, TrustedPeers.DefaultPath, TrustedPeers.ReadDefault)
            : [.. values.Select(Unwrap).SelectMany(value => value switch
            {
                null or "" => [],
                X509Certificate2 certificate => [HostCertificate.Fingerprint(certificate)],
                _ => Read(ErrorId, value, () => TrustedPeers.Read(value.ToString()!, fullPath)),
            }).Distinct()];
    }

    private static object? Unwrap(object? value) => value is PSObject wrapped ? wrapped.BaseObject : value;

    private static T Read<T>(string errorId, object? value, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (PhaulException wrong)
        {
            throw new CertificateSourceException(
                errorId, wrong.Message, wrong.RecommendedAction ?? "New-PhaulCertificate makes what is needed; see about_Phaul_Trust.", value, wrong);
        }
    }
}
