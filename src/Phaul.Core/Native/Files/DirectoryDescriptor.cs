// Descriptors of directories, as CRIU takes them, and durability of what is in them.
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Directories as descriptors, for CRIU's <c>images_dir_fd</c> and its like.</summary>
public static class DirectoryDescriptor
{
    /// <summary>Opens a directory, closed on exec.</summary>
    /// <exception cref="NativeException">It is absent or no directory.</exception>
    public static SafeFileHandle Open(string path)
    {
        const int flags = Libc.OpenReadOnly | Libc.OpenCloseOnExec;
        return new SafeFileHandle(Libc.Check(Libc.Open(path, flags | Libc.OpenDirectory, 0), $"open({path})"), ownsHandle: true);
    }

    /// <summary>The number of a descriptor in this process, for CRIU's images_dir_fd and its like.</summary>
    public static int Number(SafeHandle descriptor) => (int)descriptor.DangerousGetHandle();

    /// <summary>Makes the directory's entries (created, renamed, deleted files) survive a power cut.</summary>
    /// <exception cref="NativeException">The storage failed.</exception>
    public static void Sync(string path)
    {
        using var directory = Open(path);
        Sync(directory);
    }

    /// <summary>Makes the contents of an open file or directory survive a power cut.</summary>
    /// <exception cref="NativeException">The storage failed.</exception>
    public static void Sync(SafeFileHandle file)
    {
        if (Libc.Fsync((int)file.DangerousGetHandle()) < 0) throw Libc.Failure("fsync");
    }
}
