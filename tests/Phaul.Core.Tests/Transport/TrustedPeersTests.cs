// Whom a host trusts, as people write it down.

using System.Security.Cryptography.X509Certificates;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class TrustedPeersTests : IDisposable
{
    private static readonly string One = string.Concat(Enumerable.Repeat("1F", 32));
    private static readonly string Two = string.Concat(Enumerable.Repeat("2E", 32));

    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public void AFingerprintIsTakenAsItIsPasted() =>
        Assert.Equal([One], TrustedPeers.Read("SHA256:" + string.Join(':', Enumerable.Repeat("1f", 32)), path => throw new InvalidOperationException(path)));

    [Fact]
    public void ADirectoryHasFilesOfBothKindsAndEditorsCopiesDoNotCount()
    {
        using X509Certificate2 a = HostCertificate.Create("a", TimeSpan.FromDays(1)), b = HostCertificate.Create("b", TimeSpan.FromDays(1));
        File.WriteAllText(_temporary["1-both"], a.ExportCertificatePem() + "\n" + b.ExportCertificatePem());
        File.WriteAllText(_temporary["2-list"], $"# hosts of the rack\n\n{One.ToLowerInvariant()}   # one\r\n{Two}\n{One}\n");
        File.WriteAllText(_temporary["2-list~"], new string('3', 64));
        File.WriteAllText(_temporary[".2-list.swp"], "binary");
        Directory.CreateDirectory(_temporary["below"]);

        Assert.Equal([HostCertificate.Fingerprint(a), HostCertificate.Fingerprint(b), One, Two], TrustedPeers.Read(_temporary.Path));
        Assert.Equal([One, Two], TrustedPeers.Read("2-list", path => _temporary[path]));
    }

    [Theory]
    [InlineData("neither", "xyz")]
    [InlineData("neither", "/nowhere/at.all")]
    [InlineData("SHA-1", "0123456789012345678901234567890123456789")]
    public void WhatIsNothingOfThatIsRefusedAndSaysWhy(string why, string given) => Refused(why, given);

    [Fact]
    public void AFileThatIsNeitherIsRefusedByItsName()
    {
        File.WriteAllText(_temporary["list"], "Dear diary");
        Refused(_temporary["list"], _temporary["list"]);
        File.WriteAllText(_temporary["key"], "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        Refused("no certificate", _temporary["key"]);
        File.WriteAllBytes(_temporary["long"], new byte[(1 << 20) + 1]);
        Refused("too long", _temporary["long"]);
    }

    [Fact]
    public void WhatEverybodyMayWriteToTellsNobodyWhomToTrust()
    {
        File.WriteAllText(_temporary["list"], One);
        File.CreateSymbolicLink(_temporary["link"], _temporary["list"]);
        Assert.Equal([One], TrustedPeers.Read(_temporary["link"]));
        const UnixFileMode open = (UnixFileMode)0b110_110_110;
        File.SetUnixFileMode(_temporary["list"], open);
        Refused("Everybody", _temporary["list"]);
        Refused("Everybody", _temporary["link"]);
        Refused("Everybody", _temporary.Path);
        File.SetUnixFileMode(_temporary["list"], UnixFileMode.UserRead);
        File.SetUnixFileMode(_temporary.Path, (UnixFileMode)0b111_111_111);
        Refused("Everybody", _temporary.Path);
    }

    private static void Refused(string why, string given)
    {
        var thrown = Assert.Throws<PhaulException>(() => TrustedPeers.Read(given));
        Assert.Equal(PhaulErrorId.InvalidRequest, thrown.ErrorId);
        Assert.Contains(why, thrown.Message, StringComparison.Ordinal);
        Assert.NotNull(thrown.RecommendedAction);
    }
}
