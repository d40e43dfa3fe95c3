// userfaultfd(2) and ioctl_userfaultfd(2), from the side of whoever has the memory.

using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>How an attempt to give pages ended.</summary>
internal enum UserFaultAnswer
{
    /// <summary>Given, all or in part.</summary>
    Given,

    /// <summary>The process is just changing its mappings: it will say how, and then it can be tried again.</summary>
    Changing,

    /// <summary>The first page is there already.</summary>
    Present,

    /// <summary>These addresses are not, or no longer, one mapping that waits for pages.</summary>
    NotMapped,

    /// <summary>The process is gone.</summary>
    Gone,
}

/// <summary>What the kernel says of a process.</summary>
internal enum UserFaultEvent : byte
{
    /// <summary>It waits for the page at <see cref="UserFaultMessage.First"/>.</summary>
    PageFault = 0x12,

    /// <summary>It forked; <see cref="UserFaultMessage.Child"/> is the child's.</summary>
    Fork = 0x13,

    /// <summary>It moved memory: from <see cref="UserFaultMessage.First"/> to <see cref="UserFaultMessage.Second"/>, <see cref="UserFaultMessage.Length"/> bytes.</summary>
    Remap = 0x14,

    /// <summary>It gave the memory between <see cref="UserFaultMessage.First"/> and <see cref="UserFaultMessage.Second"/> back: it reads as zeros.</summary>
    Remove = 0x15,

    /// <summary>It unmapped what is between <see cref="UserFaultMessage.First"/> and <see cref="UserFaultMessage.Second"/>.</summary>
    Unmap = 0x16,
}

/// <summary>struct uffd_msg.</summary>
internal readonly record struct UserFaultMessage(UserFaultEvent Event, ulong First, ulong Second, ulong Length, int Child);

/// <summary>The userfaultfd of one process's memory. Never blocks.</summary>
internal sealed unsafe class UserFaultDescriptor(SafeFileHandle descriptor) : IDisposable
{
    private const int MessageSize = 32;

    // linux/userfaultfd.h: _IOR and _IOWR of 0xAA
    private const nuint Unregister = 0x8010AA01;
    private const nuint Wake = 0x8010AA02;
    private const nuint Copy = 0xC028AA03;
    private const nuint ZeroPage = 0xC020AA04;

    /// <summary>To wait for, and to be held elsewhere.</summary>
    public SafeFileHandle Descriptor { get; } = descriptor;

    /// <summary>Takes the next message, if there is one.</summary>
    /// <exception cref="NativeException">It cannot be read.</exception>
    public UserFaultMessage? TryRead()
    {
        var buffer = stackalloc byte[MessageSize];
        while (true)
        {
            var length = Libc.Read(Number, buffer, MessageSize);
            if (length == MessageSize)
                return Parse(new ReadOnlySpan<byte>(buffer, MessageSize));
            var errno = length < 0 ? Marshal.GetLastPInvokeError() : 0;
            if (errno == Libc.Eintr)
                continue;
            return errno is Libc.Eagain || length == 0 ? null : throw new NativeException("read(userfaultfd)", errno);
        }
    }

    /// <summary>Puts pages where there are none, and wakes whoever waits for them.</summary>
    /// <param name="address">Of the first.</param>
    /// <param name="pages">Whole pages.</param>
    /// <param name="given">Bytes of them that the process has now.</param>
    /// <exception cref="NativeException">Something else, as too little memory.</exception>
    public UserFaultAnswer TryCopy(ulong address, ReadOnlySpan<byte> pages, out long given)
    {
        fixed (byte* source = pages)
        {
            var request = stackalloc ulong[5] { address, (ulong)source, (ulong)pages.Length, 0, 0 };
            return Answer(Libc.Control(Number, Copy, request), pages.Length, (long)request[4], out given);
        }
    }

    /// <summary>Puts a page of zeros where there is none, and wakes whoever waits for it.</summary>
    /// <inheritdoc cref="TryCopy" path="/exception"/>
    public UserFaultAnswer TryZero(ulong address)
    {
        var length = Environment.SystemPageSize;
        var request = stackalloc ulong[4] { address, (ulong)length, 0, 0 };
        return Answer(Libc.Control(Number, ZeroPage, request), length, (long)request[3], out _);
    }

    /// <summary>Wakes whoever waits for pages that are there.</summary>
    public void WakeAt(ulong address, long length)
    {
        var range = stackalloc ulong[2] { address, (ulong)length };
        _ = Libc.Control(Number, Wake, range);
    }

    /// <summary>From now on the kernel gives pages there, of zeros. Nothing where the memory is gone.</summary>
    public void LeaveToKernel(ulong from, ulong to)
    {
        var range = stackalloc ulong[2] { from, to - from };
        _ = Libc.Control(Number, Unregister, range);
    }

    /// <inheritdoc/>
    public void Dispose() => Descriptor.Dispose();

    private int Number => (int)Descriptor.DangerousGetHandle();

    private static UserFaultAnswer Answer(int result, long wanted, long done, out long given)
    {
        given = result >= 0 ? wanted : Math.Max(0, done);
        if (given > 0)
            return UserFaultAnswer.Given;
        return Marshal.GetLastPInvokeError() switch
        {
            Libc.Eagain or Libc.Eintr => UserFaultAnswer.Changing,
            Libc.Eexist => UserFaultAnswer.Present,
            Libc.Enoent => UserFaultAnswer.NotMapped,
            // Older kernels say "no space" of a process that is ending
            Libc.Esrch or Libc.Enospc => UserFaultAnswer.Gone,
            var errno => throw new NativeException("ioctl(userfaultfd)", errno),
        };
    }

    private static UserFaultMessage Parse(ReadOnlySpan<byte> message)
    {
        var kind = (UserFaultEvent)message[0];
        ulong At(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);
        return kind switch
        {
            // Its first word are flags
            UserFaultEvent.PageFault => new UserFaultMessage(kind, At(message, 16), 0, 0, -1),
            UserFaultEvent.Fork => new UserFaultMessage(kind, 0, 0, 0, BinaryPrimitives.ReadInt32LittleEndian(message[8..])),
            UserFaultEvent.Remap => new UserFaultMessage(kind, At(message, 8), At(message, 16), At(message, 24), -1),
            UserFaultEvent.Remove or UserFaultEvent.Unmap => new UserFaultMessage(kind, At(message, 8), At(message, 16), 0, -1),
            _ => throw new NativeException($"read(userfaultfd): event {message[0]}", Libc.Eio),
        };
    }
}
