// Certificates: made, saved where nobody else reads the key, loaded again, and their fingerprints as people paste them.

using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class HostCertificateTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public void ACertificateIsSavedForItsOwnerAloneAndLoadedAgain()
    {
        using X509Certificate2 made = HostCertificate.Create("host, with \"odd\" name", TimeSpan.FromDays(10));
        string directory = _temporary["new/er"];

        HostCertificateFiles files = HostCertificate.Save(made, directory);

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(files.KeyPath));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(directory));
        Assert.Equal(2, Directory.GetFileSystemEntries(directory).Length);
        Assert.Contains("-----BEGIN PRIVATE KEY-----", File.ReadAllText(files.KeyPath), StringComparison.Ordinal);
        foreach (string? key in (string?[])[files.KeyPath, null])
        {
            using X509Certificate2 loaded = HostCertificate.Load(files.CertificatePath, key);
            Assert.True(loaded.HasPrivateKey);
            Assert.Equal(HostCertificate.Fingerprint(made), HostCertificate.Fingerprint(loaded));
            Assert.Equal("host, with \"odd\" name", loaded.GetNameInfo(X509NameType.SimpleName, false));
        }

        using ECDsa ecdsa = made.GetECDsaPrivateKey()!;
        Assert.Equal(256, ecdsa.KeySize);
        Assert.Equal("1.2.840.10045.3.1.7", ecdsa.ExportParameters(false).Curve.Oid.Value);
        var usages = made.Extensions.OfType<X509EnhancedKeyUsageExtension>().Single().EnhancedKeyUsages;
        Assert.Equal(["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"], usages.Cast<Oid>().Select(usage => usage.Value));
    }

    [Fact]
    public void WhatExistsIsReplacedOnlyByForce()
    {
        using X509Certificate2 first = HostCertificate.Create("first", TimeSpan.FromDays(1));
        using X509Certificate2 second = HostCertificate.Create("second", TimeSpan.FromDays(1));
        HostCertificateFiles files = HostCertificate.Save(first, _temporary.Path);

        Refused("already", () => HostCertificate.Save(second, _temporary.Path));
        Assert.Equal(HostCertificate.Fingerprint(first), LoadedFingerprint(files));
        File.Delete(files.CertificatePath);
        Refused("already", () => HostCertificate.Save(second, _temporary.Path));

        HostCertificate.Save(second, _temporary.Path, force: true);
        Assert.Equal(HostCertificate.Fingerprint(second), LoadedFingerprint(files));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(files.KeyPath));
    }

    [Theory]
    [InlineData(UnixFileMode.GroupRead)]
    [InlineData(UnixFileMode.OtherRead)]
    [InlineData(UnixFileMode.OtherWrite)]
    public void AKeyThatOthersCanUseIsRefused(UnixFileMode mode)
    {
        using X509Certificate2 made = HostCertificate.Create("host", TimeSpan.FromDays(1));
        HostCertificateFiles files = HostCertificate.Save(made, _temporary.Path);
        File.SetUnixFileMode(files.KeyPath, UnixFileMode.UserRead | mode);

        Refused("by others", () => HostCertificate.Load(files.CertificatePath));

        string pfx = _temporary["host.pfx"];
        File.WriteAllBytes(pfx, made.Export(X509ContentType.Pkcs12));
        File.SetUnixFileMode(pfx, UnixFileMode.UserRead | mode);
        Refused("by others", () => HostCertificate.Load(pfx));
    }

    [Fact]
    public void APkcs12FileIsLoadedToo()
    {
        using X509Certificate2 made = HostCertificate.Create("host", TimeSpan.FromDays(1));
        string pfx = _temporary["host.pfx"];
        File.WriteAllBytes(pfx, made.Export(X509ContentType.Pkcs12));
        File.SetUnixFileMode(pfx, UnixFileMode.UserRead);

        using X509Certificate2 loaded = HostCertificate.Load(pfx);

        Assert.True(loaded.HasPrivateKey);
        Assert.Equal(HostCertificate.Fingerprint(made), HostCertificate.Fingerprint(loaded));
    }

    [Fact]
    public void WhatIsNoCertificateSaysSo()
    {
        using X509Certificate2 one = HostCertificate.Create("one", TimeSpan.FromDays(1));
        using X509Certificate2 other = HostCertificate.Create("other", TimeSpan.FromDays(1));
        HostCertificateFiles ones = HostCertificate.Save(one, _temporary["one"]);
        HostCertificateFiles others = HostCertificate.Save(other, _temporary["other"]);
        string text = _temporary["text.crt"];
        File.WriteAllText(text, "no certificate");

        Refused("could not be read", () => HostCertificate.Load(_temporary["missing.crt"]));
        Refused("could not be read as", () => HostCertificate.Load(text, ones.KeyPath));
        Refused("could not be read as", () => HostCertificate.Load(ones.CertificatePath, others.KeyPath));
        Refused("others may write", () =>
        {
            Directory.CreateDirectory(_temporary["open"]);
            File.SetUnixFileMode(_temporary["open"], (UnixFileMode)0b111_111_111);
            HostCertificate.Save(one, _temporary["open"]);
        });
    }

    [Fact]
    public void AFingerprintIsTheSha256OfTheCertificate()
    {
        using X509Certificate2 made = HostCertificate.Create("host", TimeSpan.FromDays(1));

        string fingerprint = HostCertificate.Fingerprint(made);

        Assert.Equal(made.GetCertHashString(HashAlgorithmName.SHA256), fingerprint);
        Assert.Matches("^[0-9A-F]{64}$", fingerprint);
    }

    [Fact]
    public void FingerprintsAreTakenAsPeoplePasteThem()
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        for (int round = 0; round < 500; round++)
        {
            var bytes = new byte[32];
            random.NextBytes(bytes);
            string plain = Convert.ToHexString(bytes);
            string separator = random.Next(3) switch { 0 => "", 1 => ":", _ => " " };
            string pasted = string.Join(separator, bytes.Select(one => random.Next(2) == 0 ? one.ToString("x2") : one.ToString("X2")));
            pasted = random.Next(3) switch { 0 => "SHA256:" + pasted, 1 => $" \t{pasted}\n", _ => pasted };
            Assert.True(plain == HostCertificate.NormalizeFingerprint(pasted), $"seed {seed}: {pasted}");
        }
    }

    [Theory]
    [InlineData("", "0 hexadecimal digits")]
    [InlineData("abc", "3 hexadecimal digits")]
    [InlineData("zz", "'z' is not")]
    [InlineData("0123456789012345678901234567890123456789", "SHA-1")]
    [InlineData("00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF0", "65 hexadecimal digits")]
    public void WhatIsNoFingerprintSaysWhy(string text, string why) => Refused(why, () => HostCertificate.NormalizeFingerprint(text));

    private static string LoadedFingerprint(HostCertificateFiles files)
    {
        using X509Certificate2 loaded = HostCertificate.Load(files.CertificatePath, files.KeyPath);
        return HostCertificate.Fingerprint(loaded);
    }

    private static void Refused(string why, Action action)
    {
        var thrown = Assert.Throws<PhaulException>(action);
        Assert.Equal(PhaulErrorId.InvalidRequest, thrown.ErrorId);
        Assert.Contains(why, thrown.Message, StringComparison.OrdinalIgnoreCase);
    }
}
