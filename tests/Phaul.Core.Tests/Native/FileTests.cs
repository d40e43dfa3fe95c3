// Directories, durability, room, locks.
using Phaul.Native;

namespace Phaul.Tests.Native;

public sealed class FileTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-native-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public void Directories_open_and_sync_and_files_do_not_open_as_such()
    {
        using var directory = DirectoryDescriptor.Open(_directory.FullName);
        Assert.Equal(_directory.FullName, new FileInfo($"/proc/self/fd/{DirectoryDescriptor.Number(directory)}").LinkTarget);
        DirectoryDescriptor.Sync(_directory.FullName);
        DirectoryDescriptor.Sync(directory);
        Assert.Equal(Libc.Enotdir, Assert.Throws<NativeException>(() => DirectoryDescriptor.Open("/etc/passwd")).Errno);
        Assert.Equal(Libc.Enoent, Assert.Throws<NativeException>(() => DirectoryDescriptor.Sync("/nonexistent")).Errno);
    }

    [Fact]
    public void Room_agrees_with_what_dotnet_says()
    {
        var available = FileSystemSpace.AvailableBytes(_directory.FullName);
        var expected = new DriveInfo(_directory.FullName).AvailableFreeSpace;
        Assert.InRange(available, expected - (1L << 30), expected + (1L << 30)); // others write meanwhile
        Assert.True(available > 0);
        Assert.Throws<NativeException>(() => FileSystemSpace.AvailableBytes("/nonexistent"));
    }

    [Fact]
    public void A_failed_call_names_itself_and_its_reason()
    {
        var exception = Assert.Throws<NativeException>(() => DirectoryDescriptor.Open("/nonexistent"));
        Assert.Equal(("open(/nonexistent)", Libc.Enoent), (exception.Call, exception.Errno));
        Assert.Contains("No such file or directory", exception.Message, StringComparison.Ordinal);
    }
}
