// Two connected UNIX sockets.
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Makes pairs of connected UNIX sockets, closed on exec.</summary>
internal static unsafe class SocketPair
{
    /// <summary>A pair of stream sockets, as CRIU takes them for memory pages.</summary>
    /// <param name="bufferSize">Bytes of send and receive buffer of both ends, or the system's default. The kernel may grant less.</param>
    /// <exception cref="NativeException">The pair cannot be made.</exception>
    public static (Socket First, Socket Second) CreateStream(int? bufferSize = null)
    {
        var (first, second) = Create(Libc.SocketStream);
        var sockets = (First: Adopt(first), Second: Adopt(second));
        if (bufferSize is { } size)
        {
            foreach (var socket in new[] { sockets.First, sockets.Second })
                (socket.SendBufferSize, socket.ReceiveBufferSize) = (size, size);
        }
        return sockets;
    }

    /// <summary>A pair of sequenced packet sockets, as CRIU takes them for its RPC; the second end is for a child to inherit.</summary>
    /// <exception cref="NativeException">The pair cannot be made.</exception>
    public static (PacketSocket Ours, SafeFileHandle Inheritable) CreatePacket()
    {
        var (first, second) = Create(Libc.SocketSequencedPacket);
        return (new PacketSocket(new SafeFileHandle(first, ownsHandle: true)), new SafeFileHandle(second, ownsHandle: true));
    }

    private static Socket Adopt(int descriptor) => new(new SafeSocketHandle(descriptor, ownsHandle: true));

    private static (int First, int Second) Create(int type)
    {
        var descriptors = stackalloc int[2];
        Libc.Check(Libc.SocketPair(Libc.AddressFamilyUnix, type | Libc.SocketCloseOnExec, 0, descriptors), "socketpair");
        return (descriptors[0], descriptors[1]);
    }
}
