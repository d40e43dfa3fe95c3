// Giving a part of a file back to the file system.

using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

internal static class FileHole
{
    private const int KeepSize = 0x1;
    private const int PunchHole = 0x2;

    /// <summary>Makes a hole, which reads as zeros; the file stays as long as it is.</summary>
    /// <exception cref="NativeException">The file system cannot do that.</exception>
    public static void Punch(SafeFileHandle file, long offset, long length) =>
        Libc.Check(Libc.Allocate((int)file.DangerousGetHandle(), PunchHole | KeepSize, offset, length), "fallocate(FALLOC_FL_PUNCH_HOLE)");
}
