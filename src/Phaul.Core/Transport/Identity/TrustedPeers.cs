// Whom this host trusts: the fingerprints of other hosts, as people name them and as they lie in the host's own directory.

using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace Phaul.Transport;

/// <summary>Reads the fingerprints of trusted peers.</summary>
public static class TrustedPeers
{
    // Larger than any list that somebody keeps by hand
    private const int MaxFileLength = 1 << 20;

    private const string Action =
        "Give the SHA-256 fingerprint that New-PhaulCertificate or phaul new-certificate showed on the other host, a file with its "
        + "certificate or with fingerprints, or a directory of such files.";

    /// <summary>The directory of those that this host trusts unless it is told otherwise: <c>trusted</c> beside its certificate.</summary>
    public static string DefaultPath => Path.Combine(HostCertificate.DefaultDirectory, "trusted");

    /// <summary>Those in <see cref="DefaultPath"/>, which may be a file as well; none where there is no such thing.</summary>
    /// <exception cref="PhaulException">InvalidRequest: it cannot be read, or everybody can write there.</exception>
    public static IReadOnlyList<string> ReadDefault() => Path.Exists(DefaultPath) ? FromPath(DefaultPath) : [];

    /// <summary>Those that somebody named.</summary>
    /// <param name="fingerprintOrPath">
    /// A SHA-256 fingerprint; a file with certificates (PEM) or with fingerprints, one a line, # for remarks; or a directory of such
    /// files, of which those whose names begin with a dot or end with ~ do not count.
    /// </param>
    /// <param name="fullPath">Makes a path absolute; without it, it is one of this process.</param>
    /// <returns>In the form of <see cref="HostCertificate.Fingerprint"/>, each once.</returns>
    /// <exception cref="PhaulException">InvalidRequest: it is nothing of that, cannot be read, or everybody can write there.</exception>
    public static IReadOnlyList<string> Read(string fingerprintOrPath, Func<string, string>? fullPath = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(fingerprintOrPath);
        // What was meant as a fingerprint is said to be a wrong one, not a missing file
        if (fingerprintOrPath.IndexOfAny(['/', '.']) < 0 && fingerprintOrPath.Count(char.IsAsciiHexDigit) >= 40)
            return [HostCertificate.NormalizeFingerprint(fingerprintOrPath)];
        var path = fullPath?.Invoke(fingerprintOrPath) ?? fingerprintOrPath;
        return Path.Exists(path)
            ? FromPath(path)
            : throw Invalid($"'{fingerprintOrPath}' is neither a SHA-256 fingerprint (64 hexadecimal digits) nor a file or directory.");
    }

    private static IReadOnlyList<string> FromPath(string path)
    {
        try
        {
            // Whoever can write there decides who has root here
            if ((File.GetUnixFileMode(path) & UnixFileMode.OtherWrite) != 0)
                throw Invalid($"Everybody may write to {path}, and so could have any host trusted.", $"chmod o-w '{path}'");
            return Directory.Exists(path)
                ? [.. Directory.EnumerateFiles(path).Where(IsKept).Order(StringComparer.Ordinal).SelectMany(FromPath).Distinct()]
                : FromFile(path);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Invalid($"{path}, which should say who is trusted, cannot be read: {exception.Message}", cause: exception);
        }
    }

    // An editor's copy of what was taken out does not bring it back
    private static bool IsKept(string path) => Path.GetFileName(path) is var name && !name.StartsWith('.') && !name.EndsWith('~');

    private static IReadOnlyList<string> FromFile(string path)
    {
        if (new FileInfo(path).Length > MaxFileLength)
            throw Invalid($"{path} is too long for a certificate or a list of fingerprints.");
        var text = File.ReadAllText(path);
        try
        {
            return [.. (text.Contains("-----BEGIN ", StringComparison.Ordinal) ? OfCertificates(text) : OfLines(text)).Distinct()];
        }
        catch (Exception exception) when (exception is CryptographicException or PhaulException)
        {
            throw Invalid($"{path} holds neither certificates nor fingerprints: {exception.Message}", cause: exception);
        }
    }

    private static IReadOnlyList<string> OfCertificates(string text)
    {
        var certificates = new X509Certificate2Collection();
        certificates.ImportFromPem(text);
        try
        {
            return certificates.Count > 0 ? [.. certificates.Select(HostCertificate.Fingerprint)] : throw Invalid("no certificate is in it");
        }
        finally
        {
            foreach (var certificate in certificates)
                certificate.Dispose();
        }
    }

    private static IEnumerable<string> OfLines(string text) =>
        text.Split('\n').Select(line => line.Split('#')[0].Trim()).Where(line => line.Length > 0).Select(HostCertificate.NormalizeFingerprint);

    private static PhaulException Invalid(string message, string action = Action, Exception? cause = null) =>
        new(PhaulErrorId.InvalidRequest, message, cause) { RecommendedAction = action };
}
