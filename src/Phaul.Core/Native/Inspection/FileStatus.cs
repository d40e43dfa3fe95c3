// What a file is: what stat(2) says and .NET does not.

namespace Phaul.Native;

/// <summary>The status of a file.</summary>
/// <param name="Mode">st_mode: the type and the permissions.</param>
/// <param name="LinkCount">The names it has.</param>
/// <param name="Inode">Its number on its device.</param>
/// <param name="Size">Bytes.</param>
/// <param name="AllocatedBytes">Bytes that it occupies.</param>
/// <param name="Device">The device it is on.</param>
/// <param name="RealDevice">The device it is, if it is one.</param>
internal sealed record FileStatus(
    uint Mode, uint LinkCount, ulong Inode, long Size, long AllocatedBytes, (uint Major, uint Minor) Device,
    (uint Major, uint Minor) RealDevice)
{
    /// <summary>The type bits of <see cref="Mode"/>.</summary>
    public uint Type => Mode & 0xF000;

    /// <summary>A regular file.</summary>
    public bool IsRegular => Type == 0x8000;

    /// <summary>A directory.</summary>
    public bool IsDirectory => Type == 0x4000;

    /// <summary>A character device.</summary>
    public bool IsCharacterDevice => Type == 0x2000;

    /// <summary>The same file, under whatever name.</summary>
    public bool IsSameFileAs(FileStatus other) => Inode == other.Inode && Device == other.Device;

    /// <summary>Looks at a path; null if there is nothing, or nothing that may be looked at.</summary>
    /// <param name="path">The path. A link in <c>/proc/PID/fd</c> leads to what is open even where it has no name.</param>
    /// <param name="follow">Whether symbolic links are followed.</param>
    public static unsafe FileStatus? Of(string path, bool follow = true)
    {
        Libc.StatxBuffer buffer = default;
        int flags = Libc.StatxNoSync | (follow ? 0 : Libc.StatxNoFollow);
        return path.Contains('\0', StringComparison.Ordinal)
            || Libc.Statx(Libc.CurrentDirectory, path, flags, Libc.StatxBasic, &buffer) != 0
            ? null
            : new FileStatus(
                buffer.Mode, buffer.LinkCount, buffer.Inode, (long)buffer.Size, (long)buffer.Blocks * 512,
                (buffer.DeviceMajor, buffer.DeviceMinor), (buffer.RealDeviceMajor, buffer.RealDeviceMinor));
    }
}
