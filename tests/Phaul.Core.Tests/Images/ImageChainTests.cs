// The numbered directories of a migration's images.

using Phaul.Images;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Images;

public sealed class ImageChainTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task EachDirectoryIsTheParentOfTheNext()
    {
        var chain = new ImageChain(_temporary.Path);
        Assert.Null(chain.Last);

        ImageDirectory first = chain.OpenNext();
        ImageDirectory second = chain.OpenNext();
        ImageDirectory third = chain.OpenNext();

        Assert.Equal(new ImageDirectory(0, _temporary["0"], null), first);
        Assert.Equal(new ImageDirectory(1, _temporary["1"], "../0"), second);
        Assert.Equal(new ImageDirectory(2, _temporary["2"], "../1"), third);
        Assert.Equal(third, chain.Last);
        Assert.Equal(3, chain.Count);
        Assert.True(Directory.Exists(Path.Combine(third.Path, third.Parent!)));
        foreach (ImageDirectory directory in chain.Directories)
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(directory.Path));

        string precious = _temporary.MakeDirectory("precious");
        File.WriteAllText(Path.Combine(precious, "file"), "precious");
        File.WriteAllText(Path.Combine(second.Path, "core-1.img"), "core");
        Directory.CreateSymbolicLink(Path.Combine(second.Path, "parent"), precious);
        Directory.Delete(third.Path);
        await chain.RemoveAsync();

        Assert.Equal(0, chain.Count);
        Assert.Equal([precious], Directory.GetFileSystemEntries(_temporary.Path));
        Assert.True(File.Exists(Path.Combine(precious, "file")));
    }

    [Theory]
    [InlineData("directory")]
    [InlineData("file")]
    [InlineData("link")]
    public void AnExistingNameIsRefused(string what)
    {
        string path = _temporary["0"];
        if (what == "directory")
            Directory.CreateDirectory(path);
        else if (what == "file")
            File.WriteAllText(path, "");
        else
            File.CreateSymbolicLink(path, _temporary["nowhere"]);
        var chain = new ImageChain(_temporary.Path);

        Assert.Equal(PhaulErrorId.ImageTransferFailed, Assert.Throws<PhaulException>(chain.OpenNext).ErrorId);
        Assert.Equal(0, chain.Count);
    }
}
