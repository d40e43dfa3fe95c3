// Two connected UNIX sockets.
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Makes pairs of connected UNIX sockets, closed on exec.</summary>
public static unsafe class SocketPair
{
    /// <summary>Lets both ends find the end of the stream. Nothing where that has happened already.</summary>
    internal static void Cut(Socket socket)
    {
        try
        {
            socket.Shutdown(SocketShutdown.Both);
        }
        catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
        {
            // The other end was faster, which is as good.
        }
    }

    /// <summary>A pair of stream sockets, as CRIU takes them for memory pages.</summary>
    /// <param name="bufferSize">Bytes that may be under way in each direction, or the system's default. More than the system
    /// allows everybody takes CAP_NET_ADMIN; without it the kernel grants what it allows.</param>
    /// <exception cref="NativeException">The pair cannot be made.</exception>
    public static (Socket First, Socket Second) CreateStream(int? bufferSize = null)
    {
        var (first, second) = Create(Libc.SocketStream);
        var sockets = (First: Adopt(first), Second: Adopt(second));
        if (bufferSize is { } size)
        {
            SetSendBuffer(sockets.First, size);
            SetSendBuffer(sockets.Second, size);
        }
        return sockets;
    }

    // Only the sender's buffer counts on a UNIX socket
    private static void SetSendBuffer(Socket socket, int size)
    {
        try
        {
            socket.SetRawSocketOption(Libc.SocketLevel, Libc.SendBufferSizeForce, MemoryMarshal.AsBytes(new ReadOnlySpan<int>(in size)));
        }
        catch (SocketException)
        {
            socket.SendBufferSize = size;
        }
    }

    /// <summary>A pair of sequenced packet sockets, as CRIU takes them for its RPC; the second end is for a child to inherit.</summary>
    /// <exception cref="NativeException">The pair cannot be made.</exception>
    internal static (PacketSocket Ours, SafeFileHandle Inheritable) CreatePacket()
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
