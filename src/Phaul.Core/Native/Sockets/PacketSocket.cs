// A UNIX socket that keeps message boundaries (SOCK_SEQPACKET).
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>
/// One end of a sequenced packet connection. .NET's own Socket hides whether a message was cut and cannot receive a
/// descriptor that comes with one; CRIU's RPC needs both.
/// </summary>
internal sealed class PacketSocket(SafeFileHandle descriptor) : IDisposable
{
    private const int LongestAddress = 107;
    private const int ControlSpace = 64;

    /// <summary>The descriptor, to wait for.</summary>
    public SafeFileHandle Descriptor { get; } = descriptor;

    /// <summary>Connects to a listening socket.</summary>
    /// <exception cref="NativeException">Nobody listens there, or it is of another kind.</exception>
    public static unsafe PacketSocket Connect(string path)
    {
        var bytes = Encoding.UTF8.GetBytes(path);
        if (bytes.Length is 0 or > LongestAddress)
            throw new ArgumentException($"A socket path has 1 to {LongestAddress} bytes.", nameof(path));
        const int type = Libc.SocketSequencedPacket | Libc.SocketCloseOnExec;
        var handle = new SafeFileHandle(Libc.Check(Libc.Socket(Libc.AddressFamilyUnix, type, 0), "socket"), ownsHandle: true);
        var address = stackalloc byte[2 + LongestAddress + 1];
        new Span<byte>(address, 2 + LongestAddress + 1).Clear();
        *(ushort*)address = Libc.AddressFamilyUnix;
        bytes.CopyTo(new Span<byte>(address + 2, LongestAddress));
        // Connecting a local socket completes at once, or blocks while the listener's backlog is full; the service accepts in a loop.
        if (Libc.Connect((int)handle.DangerousGetHandle(), address, 2 + bytes.Length + 1) >= 0) return new PacketSocket(handle);
        var failure = Libc.Failure($"connect({path})");
        handle.Dispose();
        throw failure;
    }

    /// <summary>Asks for larger buffers; the kernel may grant less.</summary>
    public unsafe void SetSendBufferSize(int bytes) =>
        _ = Libc.SetSocketOption((int)Descriptor.DangerousGetHandle(), Libc.SocketLevel, Libc.SendBufferSize, &bytes, sizeof(int));

    /// <summary>The same, more than the system allows everybody; that takes CAP_NET_ADMIN, and less is granted without it.</summary>
    public unsafe void ForceSendBufferSize(int bytes)
    {
        if (Libc.SetSocketOption((int)Descriptor.DangerousGetHandle(), Libc.SocketLevel, Libc.SendBufferSizeForce, &bytes, sizeof(int)) < 0)
            SetSendBufferSize(bytes);
    }

    /// <summary>Sends one message.</summary>
    /// <exception cref="NativeException">The other end is gone, or the message is larger than the socket's buffer.</exception>
    public async Task SendAsync(ReadOnlyMemory<byte> message, CancellationToken cancellationToken)
    {
        while (!TrySend(message.Span))
            await DescriptorWaiter.WaitWritableAsync(Descriptor, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Sends a message of one byte and a descriptor with it (unix(7), SCM_RIGHTS), if there is room for it.</summary>
    /// <returns>Whether there was.</returns>
    /// <exception cref="NativeException">The other end is gone, or too many descriptors are under way.</exception>
    public unsafe bool TrySendDescriptor(SafeHandle descriptor)
    {
        byte one = 0;
        var vector = new Libc.Vector { Base = (nint)(&one), Length = 1 };
        var control = stackalloc byte[ControlSpace];
        *(Libc.ControlHeader*)control = new Libc.ControlHeader
        {
            Length = sizeof(Libc.ControlHeader) + sizeof(int),
            Level = Libc.SocketLevel,
            Type = Libc.PassRights,
        };
        *(int*)(control + sizeof(Libc.ControlHeader)) = (int)descriptor.DangerousGetHandle();
        var header = new Libc.MessageHeader
        {
            Vectors = (nint)(&vector),
            VectorCount = 1,
            Control = (nint)control,
            ControlLength = sizeof(Libc.ControlHeader) + sizeof(int),
        };
        return TrySend(&header);
    }

    /// <summary>Takes one message if there is one.</summary>
    /// <param name="passed">A descriptor that came with the message; the caller owns it.</param>
    /// <returns>
    /// The length of the message, which is larger than the buffer if the message was cut; 0 at the end; null if there is nothing yet.
    /// </returns>
    /// <exception cref="NativeException">The connection is broken.</exception>
    public unsafe int? TryReceive(Span<byte> buffer, out SafeFileHandle? passed)
    {
        passed = null;
        var control = stackalloc byte[ControlSpace];
        fixed (byte* bytes = buffer)
        {
            var vector = new Libc.Vector { Base = (nint)bytes, Length = buffer.Length };
            var header = new Libc.MessageHeader
            {
                Vectors = (nint)(&vector),
                VectorCount = 1,
                Control = (nint)control,
                ControlLength = ControlSpace,
            };
            const int flags = Libc.MessageDontWait | Libc.MessageTruncate | Libc.MessageCloseOnExec;
            nint length;
            do length = Libc.ReceiveMessage((int)Descriptor.DangerousGetHandle(), &header, flags);
            while (length < 0 && Marshal.GetLastPInvokeError() == Libc.Eintr);
            if (length < 0)
            {
                var errno = Marshal.GetLastPInvokeError();
                // A peer that died with unread requests resets the connection: to the reader that is the end, too.
                return errno == Libc.Eagain ? null : errno == Libc.Econnreset ? 0 : throw new NativeException("recvmsg", errno);
            }
            passed = TakeDescriptors(control, (int)header.ControlLength);
            return (int)length;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Descriptor.Dispose();

    private unsafe bool TrySend(ReadOnlySpan<byte> message)
    {
        fixed (byte* bytes = message)
        {
            var vector = new Libc.Vector { Base = (nint)bytes, Length = message.Length };
            var header = new Libc.MessageHeader { Vectors = (nint)(&vector), VectorCount = 1 };
            return TrySend(&header);
        }
    }

    private unsafe bool TrySend(Libc.MessageHeader* message)
    {
        nint sent;
        do sent = Libc.SendMessage((int)Descriptor.DangerousGetHandle(), message, Libc.MessageDontWait | Libc.MessageNoSignal);
        while (sent < 0 && Marshal.GetLastPInvokeError() == Libc.Eintr);
        if (sent >= 0) return true;
        var errno = Marshal.GetLastPInvokeError();
        return errno == Libc.Eagain ? false : throw new NativeException("sendmsg", errno);
    }

    // Keeps the first descriptor and closes the others: the kernel has already put all of them into our table.
    private static unsafe SafeFileHandle? TakeDescriptors(byte* control, int length)
    {
        SafeFileHandle? first = null;
        var headerSize = sizeof(Libc.ControlHeader);
        for (var offset = 0; offset + headerSize <= length;)
        {
            var header = (Libc.ControlHeader*)(control + offset);
            if (header->Length < headerSize || header->Length > length - offset) break;
            if (header->Level == Libc.SocketLevel && header->Type == Libc.PassRights)
            {
                for (var at = offset + headerSize; at + sizeof(int) <= offset + (int)header->Length; at += sizeof(int))
                {
                    var handle = new SafeFileHandle(*(int*)(control + at), ownsHandle: true);
                    if (first is null) first = handle;
                    else handle.Dispose();
                }
            }
            offset += ((int)header->Length + 7) & ~7;
        }
        return first;
    }
}
