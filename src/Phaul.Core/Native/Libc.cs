// Every declaration of a C library function, and the constants and layouts that those need. Nothing else imports libc.
using System.Runtime.InteropServices;

namespace Phaul.Native;

internal static unsafe partial class Libc
{
    private const string Library = "libc";

    public const int Eintr = 4;
    public const int Enoexec = 8;
    public const int Enoent = 2;
    public const int Esrch = 3;
    public const int Eio = 5;
    public const int Ebadf = 9;
    public const int Echild = 10;
    public const int Eagain = 11;
    public const int Enomem = 12;
    public const int Ebusy = 16;
    public const int Eacces = 13;
    public const int Efault = 14;
    public const int Enotdir = 20;
    public const int Enospc = 28;
    public const int Eexist = 17;
    public const int Epipe = 32;
    public const int Emsgsize = 90;
    public const int Econnreset = 104;
    public const int Econnrefused = 111;

    public const int OpenReadOnly = 0;
    public const int OpenNonBlocking = 0x800;
    public const int OpenCloseOnExec = 0x80000;
    public const int DuplicateCloseOnExec = 1030; // F_DUPFD_CLOEXEC
    public const int SetStatusFlags = 4; // F_SETFL

    public const int AddressFamilyUnix = 1;
    public const int SocketStream = 1;
    public const int SocketSequencedPacket = 5;
    public const int SocketCloseOnExec = 0x80000;
    public const int SocketLevel = 1; // SOL_SOCKET
    public const int SendBufferSize = 7; // SO_SNDBUF
    public const int ReceiveBufferSize = 8; // SO_RCVBUF
    public const int SendBufferSizeForce = 32; // SO_SNDBUFFORCE
    public const int PassRights = 1; // SCM_RIGHTS
    public const int MessageTruncate = 0x20;
    public const int MessageDontWait = 0x40;
    public const int MessageNoSignal = 0x4000;
    public const int MessageCloseOnExec = 0x40000000;

    public const int EpollAdd = 1;
    public const int EpollDelete = 2;
    public const uint EpollIn = 1;
    public const uint EpollOut = 4;
    public const uint EpollPeerClosed = 0x2000; // EPOLLRDHUP

    public const short PollIn = 1;

    public const int WaitExited = 4;
    public const int WaitPidDescriptor = 3; // P_PIDFD
    public const int ChildExited = 1; // CLD_EXITED

    public const int SignalKill = 9;
    public const int SignalTerminate = 15;
    public const int SignalContinue = 18;
    public const int SignalStop = 19;

    public const short SpawnSetSignalDefaults = 0x4;
    public const short SpawnSetSignalMask = 0x8;
    public const short SpawnNewSession = 0x80;

    public const int GetDescriptionLock = 36; // F_OFD_GETLK
    public const int SetDescriptionLock = 37; // F_OFD_SETLK
    public const short LockTypeWrite = 1; // F_WRLCK
    public const short LockTypeNone = 2; // F_UNLCK

    private const nint CallPidfdSendSignal = 424;
    private const nint CallPidfdOpen = 434;
    private const nint CallPidfdGetFd = 438;
    private const nint CallProcessMadvise = 440;

    // The kernel packs epoll_event on x86-64 only, and numbers O_DIRECTORY differently on ARM.
    private static readonly bool PackedEpoll = RuntimeInformation.ProcessArchitecture == Architecture.X64;
    public static readonly int EpollEventSize = PackedEpoll ? 12 : 16;
    public static readonly int EpollDataOffset = PackedEpoll ? 4 : 8;
    public static readonly int OpenDirectory =
        RuntimeInformation.ProcessArchitecture is Architecture.Arm64 or Architecture.Arm ? 0x4000 : 0x10000;

    /// <summary>struct pollfd.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct PollEntry
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }

    /// <summary>struct msghdr of 64-bit Linux.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct MessageHeader
    {
        public nint Name;
        public uint NameLength;
        public nint Vectors;
        public nint VectorCount;
        public nint Control;
        public nint ControlLength;
        public int Flags;
    }

    /// <summary>struct iovec.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Vector
    {
        public nint Base;
        public nint Length;
    }

    /// <summary>struct cmsghdr of 64-bit Linux.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct ControlHeader
    {
        public nint Length;
        public int Level;
        public int Type;
    }

    /// <summary>The parts of siginfo_t that waitid fills in, padded to the kernel's 128 bytes.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 128)]
    public struct SignalInfo
    {
        [FieldOffset(8)]
        public int Code;

        [FieldOffset(16)]
        public int Pid;

        [FieldOffset(24)]
        public int Status;
    }

    /// <summary>struct flock of 64-bit Linux. Start and length 0 mean the whole file; for locks of descriptions the pid has to be 0.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct RecordLock
    {
        public short Type;
        public short Whence;
        public long Start;
        public long Length;
        public int Pid;
    }

    /// <summary>struct statvfs of 64-bit glibc, the leading fields.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct FileSystemStatus
    {
        [FieldOffset(8)]
        public ulong FragmentSize;

        [FieldOffset(16)]
        public ulong Blocks;

        [FieldOffset(32)]
        public ulong AvailableBlocks;
    }

    [LibraryImport(Library, EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags, int mode);

    [LibraryImport(Library, EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int descriptor);

    [LibraryImport(Library, EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(int descriptor, byte* buffer, nint length);

    [LibraryImport(Library, EntryPoint = "pipe2", SetLastError = true)]
    public static partial int Pipe(int* descriptors, int flags);

    [LibraryImport(Library, EntryPoint = "ioctl", SetLastError = true)]
    public static partial int Control(int descriptor, nuint request, void* argument);

    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Fcntl(int descriptor, int command, int argument);

    [LibraryImport(Library, EntryPoint = "fcntl", SetLastError = true)]
    public static partial int Fcntl(SafeHandle descriptor, int command, RecordLock* argument);

    [LibraryImport(Library, EntryPoint = "fsync", SetLastError = true)]
    public static partial int Fsync(int descriptor);

    [LibraryImport(Library, EntryPoint = "process_vm_readv", SetLastError = true)]
    public static unsafe partial nint ProcessRead(int pid, Vector* local, nuint localCount, Vector* remote, nuint remoteCount, nuint flags);

    [LibraryImport(Library, EntryPoint = "fallocate", SetLastError = true)]
    public static partial int Allocate(int descriptor, int mode, long offset, long length);

    [LibraryImport(Library, EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Link(string existingPath, string newPath);

    [LibraryImport(Library, EntryPoint = "statvfs", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int StatVfs(string path, FileSystemStatus* status);

    [LibraryImport(Library, EntryPoint = "socketpair", SetLastError = true)]
    public static partial int SocketPair(int family, int type, int protocol, int* descriptors);

    [LibraryImport(Library, EntryPoint = "socket", SetLastError = true)]
    public static partial int Socket(int family, int type, int protocol);

    [LibraryImport(Library, EntryPoint = "connect", SetLastError = true)]
    public static partial int Connect(int descriptor, byte* address, int length);

    [LibraryImport(Library, EntryPoint = "setsockopt", SetLastError = true)]
    public static partial int SetSocketOption(int descriptor, int level, int option, void* value, int length);

    [LibraryImport(Library, EntryPoint = "sendmsg", SetLastError = true)]
    public static partial nint SendMessage(int descriptor, MessageHeader* message, int flags);

    [LibraryImport(Library, EntryPoint = "recvmsg", SetLastError = true)]
    public static partial nint ReceiveMessage(int descriptor, MessageHeader* message, int flags);

    [LibraryImport(Library, EntryPoint = "epoll_create1", SetLastError = true)]
    public static partial int EpollCreate(int flags);

    [LibraryImport(Library, EntryPoint = "epoll_ctl", SetLastError = true)]
    public static partial int EpollControl(int epoll, int operation, int descriptor, byte* registration);

    [LibraryImport(Library, EntryPoint = "epoll_wait", SetLastError = true)]
    public static partial int EpollWait(int epoll, byte* events, int capacity, int timeout);

    [LibraryImport(Library, EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollEntry* entries, ulong count, int timeout);

    [LibraryImport(Library, EntryPoint = "waitid", SetLastError = true)]
    public static partial int WaitId(int kind, int id, SignalInfo* info, int options);

    [LibraryImport(Library, EntryPoint = "kill", SetLastError = true)]
    public static partial int Kill(int pid, int signal);

    // glibc has had pidfd_open and pidfd_send_signal only since 2.36: by number they work everywhere.
    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall(nint number, nint first, nint second, nint third, nint fourth);

    public static int PidfdOpen(int pid, int flags) => (int)Syscall(CallPidfdOpen, pid, flags, 0, 0);

    [LibraryImport(Library, EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall(nint number, nint first, nint second, nint third, nint fourth, nint fifth);

    /// <summary>kcmp(2) of two descriptors: 0 if they are of the same open file.</summary>
    public static int CompareFiles(int pid, int descriptor, int otherPid, int otherDescriptor) =>
        (int)Syscall(RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 312 : 272, pid, otherPid, 0, descriptor, otherDescriptor);

    public static int PidfdGetDescriptor(int pidfd, int descriptor) => (int)Syscall(CallPidfdGetFd, pidfd, descriptor, 0, 0);

    public static nint ProcessAdvise(int pidfd, Vector* ranges, int count, int advice) =>
        Syscall(CallProcessMadvise, pidfd, (nint)ranges, count, advice, 0);

    public static int PidfdSendSignal(int pidfd, int signal) => (int)Syscall(CallPidfdSendSignal, pidfd, signal, 0, 0);

    // The posix_spawn family returns the error number instead of setting errno.
    [LibraryImport(Library, EntryPoint = "posix_spawnp", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SpawnOnPath(int* pid, string file, nint actions, nint attributes, byte** arguments, byte** environment);

    [LibraryImport(Library, EntryPoint = "posix_spawn_file_actions_init")]
    public static partial int SpawnActionsInit(nint actions);

    [LibraryImport(Library, EntryPoint = "posix_spawn_file_actions_destroy")]
    public static partial int SpawnActionsDestroy(nint actions);

    [LibraryImport(Library, EntryPoint = "posix_spawn_file_actions_adddup2")]
    public static partial int SpawnActionsDuplicate(nint actions, int from, int to);

    [LibraryImport(Library, EntryPoint = "posix_spawn_file_actions_addopen", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SpawnActionsOpen(nint actions, int descriptor, string path, int flags, uint mode);

    [LibraryImport(Library, EntryPoint = "posix_spawn_file_actions_addclosefrom_np")]
    public static partial int SpawnActionsCloseFrom(nint actions, int from);

    [LibraryImport(Library, EntryPoint = "posix_spawnattr_init")]
    public static partial int SpawnAttributesInit(nint attributes);

    [LibraryImport(Library, EntryPoint = "posix_spawnattr_destroy")]
    public static partial int SpawnAttributesDestroy(nint attributes);

    [LibraryImport(Library, EntryPoint = "posix_spawnattr_setflags")]
    public static partial int SpawnAttributesFlags(nint attributes, short flags);

    [LibraryImport(Library, EntryPoint = "posix_spawnattr_setsigdefault")]
    public static partial int SpawnAttributesSignalDefaults(nint attributes, nint set);

    [LibraryImport(Library, EntryPoint = "posix_spawnattr_setsigmask")]
    public static partial int SpawnAttributesSignalMask(nint attributes, nint set);

    [LibraryImport(Library, EntryPoint = "sigfillset")]
    public static partial int SignalSetFill(nint set);

    [LibraryImport(Library, EntryPoint = "sigemptyset")]
    public static partial int SignalSetEmpty(nint set);

    /// <summary>Whether the child can be told to close everything that was not named (glibc 2.34 and later).</summary>
    public static readonly bool HasSpawnCloseFrom =
        NativeLibrary.TryLoad("libc.so.6", out var library)
        && NativeLibrary.TryGetExport(library, "posix_spawn_file_actions_addclosefrom_np", out _);

    /// <summary>The exception for the call that has just failed on this thread.</summary>
    public static NativeException Failure(string call) => new(call, Marshal.GetLastPInvokeError());

    /// <summary>Passes a result through, or throws if it is negative.</summary>
    public static int Check(int result, string call) => result >= 0 ? result : throw Failure(call);
}
