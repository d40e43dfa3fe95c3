// The C library's functions for looking at files and sockets of other processes.

using System.Runtime.InteropServices;

namespace Phaul.Native;

internal static unsafe partial class Libc
{
    public const int Einval = 22;

    public const int CurrentDirectory = -100; // AT_FDCWD
    public const int StatxNoFollow = 0x100; // AT_SYMLINK_NOFOLLOW
    public const int StatxNoSync = 0x4000; // AT_STATX_DONT_SYNC
    public const uint StatxBasic = 0x7ff; // STATX_BASIC_STATS
    public const int NetlinkFamily = 16; // AF_NETLINK
    public const int NetlinkSockDiag = 4; // NETLINK_SOCK_DIAG
    public const int RawCloseOnExec = 3 | 0x80000; // SOCK_RAW | SOCK_CLOEXEC
    public const int ReceiveTimeout = 20; // SO_RCVTIMEO
    public const int NewNetworkNamespace = 0x4000_0000; // CLONE_NEWNET

    [LibraryImport(Library, EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Statx(int directory, string path, int flags, uint mask, StatxBuffer* buffer);

    [LibraryImport(Library, EntryPoint = "getxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint GetExtendedAttribute(string path, string name, byte* value, nint size);

    [LibraryImport(Library, EntryPoint = "setns", SetLastError = true)]
    public static partial int SetNamespace(int descriptor, int kind);

    [LibraryImport(Library, EntryPoint = "send", SetLastError = true)]
    public static partial nint Send(int descriptor, void* buffer, nint length, int flags);

    [LibraryImport(Library, EntryPoint = "recv", SetLastError = true)]
    public static partial nint Receive(int descriptor, void* buffer, nint length, int flags);

    /// <summary>struct statx: the same on every architecture.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct StatxBuffer
    {
        [FieldOffset(0x10)]
        public uint LinkCount;

        [FieldOffset(0x1c)]
        public ushort Mode;

        [FieldOffset(0x20)]
        public ulong Inode;

        [FieldOffset(0x28)]
        public ulong Size;

        [FieldOffset(0x30)]
        public ulong Blocks;

        [FieldOffset(0x80)]
        public uint RealDeviceMajor;

        [FieldOffset(0x84)]
        public uint RealDeviceMinor;

        [FieldOffset(0x88)]
        public uint DeviceMajor;

        [FieldOffset(0x8c)]
        public uint DeviceMinor;
    }
}
