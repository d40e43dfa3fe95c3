// Which names are plain image names.

using Phaul.Images;

namespace Phaul.Tests.Images;

public sealed class ImageNameTests
{
    [Theory]
    [InlineData("inventory.img")]
    [InlineData("core-123.img")]
    [InlineData("pagemap-shmem-18446744073709551615.img")]
    [InlineData("tmpfs-dev-12.tar.gz.img")]
    [InlineData("ip6tables-9.img")]
    [InlineData("netns-ct-9.img")]
    [InlineData("ghost-file-1f.img")]
    [InlineData("amdgpu-dmabuf_3.img")]
    [InlineData("stats-dump")]
    [InlineData("stats-restore")]
    [InlineData("irmap-cache")]
    [InlineData("descriptors.json")]
    public void CriusNamesAreTaken(string text)
    {
        Assert.True(ImageName.TryParse(text, out ImageName name));
        Assert.Equal(text, name.ToString());
        Assert.Equal(text.StartsWith("pagemap-", StringComparison.Ordinal), name.IsPagemap);
        Assert.False(name.IsPages);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData(".img")]
    [InlineData(".hidden.img")]
    [InlineData("../core-1.img")]
    [InlineData("a/core-1.img")]
    [InlineData("/core-1.img")]
    [InlineData("core 1.img")]
    [InlineData("core-1.img\n")]
    [InlineData("core-1.img\0")]
    [InlineData("core-1.img/")]
    [InlineData("core\\1.img")]
    [InlineData("k\u00f6rn-1.img")]
    [InlineData("core-\uff11.img")]
    [InlineData("dump.log")]
    [InlineData("parent")]
    [InlineData("stats-dump2")]
    [InlineData("core-1.IMG")]
    public void OthersAreNot(string? text) => Assert.False(ImageName.TryParse(text, out _));

    [Fact]
    public void ANameHasABound()
    {
        Assert.True(ImageName.TryParse(new string('x', 124) + ".img", out _));
        Assert.False(ImageName.TryParse(new string('x', 125) + ".img", out _));
    }

    [Fact]
    public void NoNameLeavesItsDirectory()
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        const string Alphabet = "./\\-_a0\0 \n%~img";
        int accepted = 0;
        for (int round = 0; round < 100_000; round++)
        {
            string text = new string([.. Enumerable.Range(0, random.Next(0, 8)).Select(_ => Alphabet[random.Next(Alphabet.Length)])])
                + (random.Next(2) == 0 ? ".img" : "");
            if (!ImageName.TryParse(text, out ImageName name))
                continue;
            accepted++;
            string path = Path.GetFullPath(Path.Combine("/images", name.ToString()));
            Assert.True(Path.GetDirectoryName(path) == "/images" && Path.GetFileName(path) == text, $"seed {seed}: '{text}'");
        }

        Assert.InRange(accepted, 100, 100_000);
    }
}
