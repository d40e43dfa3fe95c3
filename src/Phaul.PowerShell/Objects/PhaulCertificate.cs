// A host's certificate as New-PhaulCertificate shows it.

using System.Security.Cryptography.X509Certificates;

namespace Phaul.PowerShell.Objects;

/// <summary>The certificate that was made, and where it is.</summary>
public sealed class PhaulCertificate
{
    internal PhaulCertificate(X509Certificate2 certificate, string fingerprint, string certificatePath, string keyPath)
    {
        Certificate = certificate;
        Fingerprint = fingerprint;
        CertificatePath = certificatePath;
        KeyPath = keyPath;
    }

    /// <summary>SHA-256 of the certificate: what the other host pins.</summary>
    public string Fingerprint { get; }

    /// <summary>The subject, with the host's name.</summary>
    public string Subject => Certificate.Subject;

    /// <summary>When it stops being good.</summary>
    public DateTimeOffset NotAfter => Certificate.NotAfter;

    /// <summary>The certificate, PEM; copy it to the other host, or only its fingerprint.</summary>
    public string CertificatePath { get; }

    /// <summary>The private key, PEM, mode 0600; it stays on this host.</summary>
    public string KeyPath { get; }

    /// <summary>The certificate with its key, for -Certificate.</summary>
    public X509Certificate2 Certificate { get; }

    /// <inheritdoc/>
    public override string ToString() => Fingerprint;
}
