// How much room a file system has.
namespace Phaul.Native;

internal static unsafe class FileSystemSpace
{
    /// <summary>Bytes that this process can still write to the file system that holds a path.</summary>
    /// <exception cref="NativeException">There is no such path.</exception>
    public static long AvailableBytes(string path)
    {
        var status = default(Libc.FileSystemStatus);
        Libc.Check(Libc.StatVfs(path, &status), $"statvfs({path})");
        return (long)UInt128.Min((UInt128)status.AvailableBlocks * status.FragmentSize, (UInt128)long.MaxValue);
    }
}
