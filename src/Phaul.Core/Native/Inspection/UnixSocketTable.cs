// The UNIX sockets of a network namespace and who is connected to whom: only the kernel's sock_diag says that.

using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>One UNIX socket.</summary>
/// <param name="Inode">Its number.</param>
/// <param name="Type">1 stream, 2 datagram, 5 sequenced packets.</param>
/// <param name="PeerInode">The number of the socket that it is connected to; 0: none.</param>
/// <param name="Name">Where it is bound: a path, or <c>@name</c> in the abstract name space; null: nowhere.</param>
internal sealed record UnixSocketEntry(uint Inode, byte Type, uint PeerInode, string? Name)
{
    /// <summary>A datagram socket.</summary>
    public bool IsDatagram => Type == 2;
}

internal static unsafe class UnixSocketTable
{
    private const int HeaderLength = 16;
    private const int MessageLength = 16;
    private const ushort ByFamily = 20; // SOCK_DIAG_BY_FAMILY
    private const ushort Done = 3; // NLMSG_DONE
    private const ushort Error = 2; // NLMSG_ERROR
    private const ushort NameAttribute = 0; // UNIX_DIAG_NAME
    private const ushort PeerAttribute = 2; // UNIX_DIAG_PEER
    private const int MaxEntries = 1 << 20;

    /// <summary>Reads the table.</summary>
    /// <param name="namespacePath">A link to a network namespace (<c>/proc/PID/ns/net</c>); null: this process's own.</param>
    /// <exception cref="IOException">The kernel's answer cannot be read, or the namespace is gone.</exception>
    /// <exception cref="NativeException">The kernel did not answer, or the namespace may not be entered.</exception>
    public static Task<IReadOnlyDictionary<uint, UnixSocketEntry>> ReadAsync(string? namespacePath)
    {
        // A thread of its own: entering a namespace changes the thread for good, and it must not go back to the pool.
        var result = new TaskCompletionSource<IReadOnlyDictionary<uint, UnixSocketEntry>>(
            TaskCreationOptions.RunContinuationsAsynchronously);
        var thread = new Thread(() =>
        {
            try
            {
                if (namespacePath is not null) Enter(namespacePath);
                result.SetResult(Read());
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
        })
        { IsBackground = true, Name = "Phaul socket table" };
        thread.Start();
        return result.Task;
    }

    private static void Enter(string path)
    {
        using var handle = File.OpenHandle(path);
        Libc.Check(Libc.SetNamespace((int)handle.DangerousGetHandle(), Libc.NewNetworkNamespace), "setns");
    }

    private static Dictionary<uint, UnixSocketEntry> Read()
    {
        int descriptor = Libc.Check(
            Libc.Socket(Libc.NetlinkFamily, Libc.RawCloseOnExec, Libc.NetlinkSockDiag), "socket(NETLINK_SOCK_DIAG)");
        using var owner = new SafeFileHandle(descriptor, ownsHandle: true);

        long* limit = stackalloc long[] { 5, 0 };
        _ = Libc.SetSocketOption(descriptor, Libc.SocketLevel, Libc.ReceiveTimeout, limit, 2 * sizeof(long));

        // nlmsghdr, then unix_diag_req { family, protocol, pad, states, inode, show, cookie[2] }.
        const int length = HeaderLength + 24;
        byte* request = stackalloc byte[length];
        var span = new Span<byte>(request, length);
        span.Clear();
        MemoryMarshal.Write(span, length);
        MemoryMarshal.Write(span[4..], ByFamily);
        MemoryMarshal.Write(span[6..], (ushort)0x301); // NLM_F_REQUEST | NLM_F_DUMP
        span[HeaderLength] = 1; // AF_UNIX
        MemoryMarshal.Write(span[(HeaderLength + 4)..], uint.MaxValue); // every state
        MemoryMarshal.Write(span[(HeaderLength + 12)..], 0x1 | 0x4); // UDIAG_SHOW_NAME | UDIAG_SHOW_PEER
        if (Libc.Send(descriptor, request, length, 0) != length) throw Libc.Failure("send(sock_diag)");

        var entries = new Dictionary<uint, UnixSocketEntry>();
        byte[] buffer = new byte[64 * 1024];
        fixed (byte* start = buffer)
        {
            while (true)
            {
                nint received = Libc.Receive(descriptor, start, buffer.Length, 0);
                if (received <= 0) throw Libc.Failure("recv(sock_diag)");
                if (Parse(buffer.AsSpan(0, (int)received), entries)) return entries;
                if (entries.Count > MaxEntries) throw new IOException("There are too many UNIX sockets to be looked at.");
            }
        }
    }

    /// <summary>Takes in one datagram of the answer.</summary>
    /// <returns>Whether it was the last.</returns>
    internal static bool Parse(ReadOnlySpan<byte> datagram, Dictionary<uint, UnixSocketEntry> entries)
    {
        while (datagram.Length >= HeaderLength)
        {
            int length = MemoryMarshal.Read<int>(datagram);
            if (length < HeaderLength || length > datagram.Length) throw new IOException("The kernel's list of UNIX sockets is garbled.");
            ushort type = MemoryMarshal.Read<ushort>(datagram[4..]);
            if (type == Done) return true;
            if (type == Error) throw new IOException("The kernel did not list its UNIX sockets (is the module unix_diag missing?).");
            if (type == ByFamily && length >= HeaderLength + MessageLength)
            {
                var message = datagram[HeaderLength..length];
                uint inode = MemoryMarshal.Read<uint>(message[4..]);
                uint peer = 0;
                string? name = null;
                var rest = message[MessageLength..];
                while (rest.Length >= 4)
                {
                    int attributeLength = MemoryMarshal.Read<ushort>(rest);
                    if (attributeLength < 4 || attributeLength > rest.Length) break;
                    var value = rest[4..attributeLength];
                    switch (MemoryMarshal.Read<ushort>(rest[2..]))
                    {
                        case PeerAttribute when value.Length >= 4:
                            peer = MemoryMarshal.Read<uint>(value);
                            break;
                        case NameAttribute when value.Length > 0:
                            name = value[0] == 0 ? "@" + Encoding.UTF8.GetString(value[1..]) : Encoding.UTF8.GetString(value).TrimEnd('\0');
                            break;
                    }

                    rest = rest[Math.Min((attributeLength + 3) & ~3, rest.Length)..];
                }

                entries[inode] = new UnixSocketEntry(inode, message[1], peer, name);
            }

            datagram = datagram[Math.Min((length + 3) & ~3, datagram.Length)..];
        }

        return false;
    }
}
