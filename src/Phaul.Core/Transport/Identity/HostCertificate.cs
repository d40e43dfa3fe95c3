// A host's key and certificate: made, saved, loaded, and known by its fingerprint.

using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Phaul.Transport;

/// <summary>The paths of a saved certificate and its key.</summary>
/// <param name="CertificatePath">The certificate, PEM.</param>
/// <param name="KeyPath">The private key, PKCS#8 PEM, mode 0600.</param>
public readonly record struct HostCertificateFiles(string CertificatePath, string KeyPath);

/// <summary>What a host proves its identity with. Peers pin its <see cref="Fingerprint"/>; there is no authority and no name
/// check.</summary>
/// <remarks>The certificate is the caller's to dispose.</remarks>
public static class HostCertificate
{
    /// <summary>Names the directory of the host's certificate, over the defaults.</summary>
    public const string DirectoryVariable = "PHAUL_CERTIFICATE_DIRECTORY";

    /// <summary>The file name of the certificate.</summary>
    public const string CertificateFileName = "phaul.crt";

    /// <summary>The file name of the private key.</summary>
    public const string KeyFileName = "phaul.key";

    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private const UnixFileMode PublicFile = OwnerFile | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const UnixFileMode OwnerDirectory = OwnerFile | UnixFileMode.UserExecute;

    private const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    private const UnixFileMode OthersWrite = UnixFileMode.GroupWrite | UnixFileMode.OtherWrite;

    // Larger than any certificate or key; what is bigger is not read.
    private const int MaxFileLength = 1 << 20;

    /// <summary>
    /// Where the host's certificate is kept: the directory named by <see cref="DirectoryVariable"/>, else <c>/etc/phaul</c> for
    /// root and <c>~/.config/phaul</c> for others.
    /// </summary>
    public static string DefaultDirectory
    {
        get
        {
            string? named = Environment.GetEnvironmentVariable(DirectoryVariable);
            if (!string.IsNullOrEmpty(named))
                return Path.GetFullPath(named);
            return Environment.IsPrivilegedProcess
                ? "/etc/phaul"
                : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".config", "phaul");
        }
    }

    /// <summary>Makes a key (ECDSA, P-256) and a self-signed certificate for both ends of a connection.</summary>
    /// <param name="commonName">The name people see; peers do not check it. 1 to 64 characters.</param>
    /// <param name="validity">How long it is good, from now. It is also good for the day before, for the sake of clocks.</param>
    /// <exception cref="PhaulException">InvalidRequest: the name or the validity cannot be used.</exception>
    public static X509Certificate2 Create(string commonName, TimeSpan validity)
    {
        ArgumentNullException.ThrowIfNull(commonName);
        if (commonName.Length is 0 or > 64 || commonName.Any(char.IsControl))
            throw Invalid("The common name of a certificate has 1 to 64 printable characters.");
        DateTimeOffset now = DateTimeOffset.UtcNow;
        if (validity <= TimeSpan.Zero || validity > TimeSpan.FromDays(36525))
            throw Invalid("The validity of a certificate is more than nothing and at most 100 years.");
        var name = new X500DistinguishedNameBuilder();
        name.AddCommonName(commonName);
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest(name.Build(), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, true));
        request.CertificateExtensions.Add(new X509EnhancedKeyUsageExtension(
            [new Oid("1.3.6.1.5.5.7.3.1", "serverAuth"), new Oid("1.3.6.1.5.5.7.3.2", "clientAuth")], false));
        return request.CreateSelfSigned(now.AddDays(-1), now + validity);
    }

    /// <summary>Writes certificate and key into a directory, which is made with mode 0700 if it is missing.</summary>
    /// <param name="certificate">A certificate with its private key.</param>
    /// <param name="directory">Where to.</param>
    /// <param name="force">Replace existing files.</param>
    /// <exception cref="PhaulException">InvalidRequest: files exist and <paramref name="force"/> is false, or they cannot be
    /// written.</exception>
    public static HostCertificateFiles Save(X509Certificate2 certificate, string directory, bool force = false)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        ArgumentException.ThrowIfNullOrEmpty(directory);
        var files = new HostCertificateFiles(Path.Combine(directory, CertificateFileName), Path.Combine(directory, KeyFileName));
        try
        {
            Directory.CreateDirectory(directory, OwnerDirectory);
            if ((File.GetUnixFileMode(directory) & OthersWrite) != 0)
                throw Invalid($"Others may write to {directory}, so a key is not safe there.", $"chmod go-w '{directory}'");
            if (!force && (Exists(files.CertificatePath) || Exists(files.KeyPath)))
            {
                throw Invalid(
                    $"There is a certificate in {directory} already.",
                    "Use it, or replace it by force: peers must then pin the new fingerprint.");
            }

            using ECDsa key = certificate.GetECDsaPrivateKey() ?? throw Invalid("The certificate has no ECDSA private key to save.");
            Write(files.KeyPath, key.ExportPkcs8PrivateKeyPem() + "\n", OwnerFile, force);
            Write(files.CertificatePath, certificate.ExportCertificatePem() + "\n", PublicFile, force);
            return files;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Invalid($"The certificate could not be saved in {directory}: {exception.Message}", null, exception);
        }
    }

    /// <summary>Reads a certificate with its private key.</summary>
    /// <param name="certificatePath">
    /// A PEM certificate, a PEM file with both, a PKCS#12 file (.pfx, .p12) without password, or a directory with
    /// <see cref="CertificateFileName"/>. Null: <see cref="DefaultDirectory"/>.
    /// </param>
    /// <param name="keyPath">The PEM private key. Null: in the certificate's file, or beside it with the extension <c>.key</c>.</param>
    /// <exception cref="PhaulException">InvalidRequest: a file is missing, is no such thing, or others may read the key.</exception>
    public static X509Certificate2 Load(string? certificatePath, string? keyPath = null)
    {
        certificatePath ??= DefaultDirectory;
        if (Directory.Exists(certificatePath))
            certificatePath = Path.Combine(certificatePath, CertificateFileName);
        try
        {
            bool pkcs12 = Path.GetExtension(certificatePath).ToLowerInvariant() is ".pfx" or ".p12";
            byte[] content = Read(certificatePath, secret: pkcs12);
            if (pkcs12)
            {
                var loaded = new X509Certificate2(content, (string?)null, X509KeyStorageFlags.EphemeralKeySet);
                if (loaded.HasPrivateKey)
                    return loaded;
                loaded.Dispose();
                throw Invalid($"{certificatePath} holds no private key.");
            }

            string certificate = Encoding.UTF8.GetString(content);
            if (keyPath is null && certificate.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
                keyPath = certificatePath;
            keyPath ??= Path.ChangeExtension(certificatePath, ".key");
            string key = Encoding.UTF8.GetString(Read(keyPath, secret: true));
            return X509Certificate2.CreateFromPem(certificate, key);
        }
        catch (Exception exception) when (exception is CryptographicException or ArgumentException)
        {
            string key = keyPath is null ? "" : $" with the key {keyPath}";
            throw Invalid($"{certificatePath}{key} could not be read as a certificate and its key: {exception.Message}", null, exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Invalid(
                $"The certificate {certificatePath} could not be read: {exception.Message}",
                "New-PhaulCertificate and phaul new-certificate make one.", exception);
        }
    }

    /// <summary>SHA-256 of the certificate's DER form, as 64 upper-case hexadecimal digits.</summary>
    public static string Fingerprint(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        return Convert.ToHexString(SHA256.HashData(certificate.RawDataMemory.Span));
    }

    /// <summary>Brings a fingerprint, as people paste it, into the form of <see cref="Fingerprint"/>.</summary>
    /// <param name="fingerprint">64 hexadecimal digits in either case, with or without colons and white space, perhaps after
    /// <c>SHA256:</c>.</param>
    /// <exception cref="PhaulException">InvalidRequest, with what is wrong.</exception>
    public static string NormalizeFingerprint(string fingerprint)
    {
        ArgumentNullException.ThrowIfNull(fingerprint);
        string text = fingerprint.Trim();
        foreach (string prefix in (string[])["SHA256:", "SHA-256:", "sha256 Fingerprint="])
        {
            if (text.StartsWith(prefix, StringComparison.OrdinalIgnoreCase))
                text = text[prefix.Length..];
        }

        var digits = new StringBuilder(64);
        foreach (char character in text)
        {
            if (character == ':' || char.IsWhiteSpace(character))
                continue;
            if (!char.IsAsciiHexDigit(character))
                throw Invalid(
                    $"'{Shorten(fingerprint)}' is not a SHA-256 fingerprint: '{character}' is not a hexadecimal digit.", FingerprintAction);
            digits.Append(char.ToUpperInvariant(character));
        }

        if (digits.Length == 40)
            throw Invalid($"'{fingerprint.Trim()}' is a SHA-1 fingerprint; a SHA-256 fingerprint is needed.", FingerprintAction);
        if (digits.Length != 64)
        {
            throw Invalid(
                $"'{Shorten(fingerprint)}' is not a SHA-256 fingerprint: it has {digits.Length} hexadecimal digits instead of 64.",
                FingerprintAction);
        }

        return digits.ToString();
    }

    private const string FingerprintAction = "phaul new-certificate prints the fingerprint of its host.";

    private static string Shorten(string text) => text.Length <= 100 ? text : text[..100] + "…";

    private static bool Exists(string path) => File.Exists(path) || Directory.Exists(path) || new FileInfo(path).LinkTarget is not null;

    // Complete and with the right mode from the first byte on, under another name; then renamed.
    private static void Write(string path, string content, UnixFileMode mode, bool force)
    {
        string temporary = $"{path}.{Convert.ToHexString(RandomNumberGenerator.GetBytes(8))}.new";
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            Share = FileShare.None,
            UnixCreateMode = mode,
        };
        try
        {
            using (var stream = new FileStream(temporary, options))
            {
                stream.Write(Encoding.ASCII.GetBytes(content));
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, force);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    private static byte[] Read(string path, bool secret)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        if (secret && (File.GetUnixFileMode(stream.SafeFileHandle) & Others) != 0)
            throw Invalid($"The private key {path} can be used by others than its owner.", $"chmod 600 '{path}'");
        if (stream.Length > MaxFileLength)
            throw Invalid($"{path} is too large to be a certificate or a key.");
        var content = new byte[stream.Length];
        stream.ReadExactly(content);
        return content;
    }

    private static PhaulException Invalid(string message, string? action = null, Exception? cause = null) =>
        new(PhaulErrorId.InvalidRequest, message, cause) { RecommendedAction = action };
}
