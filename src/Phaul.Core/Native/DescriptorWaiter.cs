// Waiting for any descriptor (pidfd, pipe, packet socket) without holding a thread: one epoll thread for the whole process.
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Turns the readiness of a descriptor into a task.</summary>
internal static class DescriptorWaiter
{
    private static readonly Lazy<EpollLoop> Loop = new(static () => new EpollLoop());

    /// <summary>Completes when the descriptor is readable, at its end, or in error.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled first.</exception>
    /// <exception cref="NativeException">The descriptor cannot be waited for.</exception>
    public static Task WaitReadableAsync(SafeHandle descriptor, CancellationToken cancellationToken) =>
        Loop.Value.WaitAsync(descriptor, Libc.EpollIn | Libc.EpollPeerClosed, cancellationToken);

    /// <summary>Completes when the descriptor can be written to, or is in error.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled first.</exception>
    /// <exception cref="NativeException">The descriptor cannot be waited for.</exception>
    public static Task WaitWritableAsync(SafeHandle descriptor, CancellationToken cancellationToken) =>
        Loop.Value.WaitAsync(descriptor, Libc.EpollOut, cancellationToken);

    /// <summary>Completes when the other end has closed its socket, whatever is still unread.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled first.</exception>
    /// <exception cref="NativeException">The descriptor cannot be waited for.</exception>
    public static Task WaitPeerClosedAsync(SafeHandle descriptor, CancellationToken cancellationToken) =>
        Loop.Value.WaitAsync(descriptor, Libc.EpollPeerClosed, cancellationToken);

    private sealed class EpollLoop
    {
        private readonly SafeFileHandle _epoll;
        private readonly ConcurrentDictionary<ulong, Registration> _registrations = new();
        private long _lastId;

        public EpollLoop()
        {
            _epoll = new SafeFileHandle(Libc.Check(Libc.EpollCreate(Libc.OpenCloseOnExec), "epoll_create1"), ownsHandle: true);
            new Thread(Run) { IsBackground = true, Name = "phaul-epoll" }.Start();
        }

        public async Task WaitAsync(SafeHandle descriptor, uint events, CancellationToken cancellationToken)
        {
            cancellationToken.ThrowIfCancellationRequested();
            // A duplicate is registered: it stays ours until it is removed, so a number that its owner closes and the kernel
            // gives out again is never waited for by mistake, and one descriptor may be waited for more than once.
            var registration = new Registration(DescriptorDuplicate.Of(descriptor));
            var id = (ulong)Interlocked.Increment(ref _lastId);
            _registrations[id] = registration;
            Add(id, registration, events);
            using (cancellationToken.UnsafeRegister(
                static (state, token) =>
                {
                    var (loop, id) = ((EpollLoop, ulong))state!;
                    if (loop.Remove(id) is { } removed) removed.Completion.TrySetCanceled(token);
                },
                (this, id)))
            {
                await registration.Completion.Task.ConfigureAwait(false);
            }
        }

        private unsafe void Add(ulong id, Registration registration, uint events)
        {
            var entry = stackalloc byte[16];
            BinaryPrimitives.WriteUInt32LittleEndian(new Span<byte>(entry, 4), events);
            BinaryPrimitives.WriteUInt64LittleEndian(new Span<byte>(entry + Libc.EpollDataOffset, 8), id);
            if (Libc.EpollControl(Number(_epoll), Libc.EpollAdd, Number(registration.Duplicate), entry) >= 0) return;
            var failure = Libc.Failure("epoll_ctl");
            if (_registrations.TryRemove(id, out _)) registration.Duplicate.Dispose();
            throw failure;
        }

        // Whoever takes the registration out of the table completes it: an event that comes late finds nothing.
        private unsafe Registration? Remove(ulong id)
        {
            if (!_registrations.TryRemove(id, out var registration)) return null;
            var unused = stackalloc byte[16];
            _ = Libc.EpollControl(Number(_epoll), Libc.EpollDelete, Number(registration.Duplicate), unused);
            registration.Duplicate.Dispose();
            return registration;
        }

        private unsafe void Run()
        {
            const int capacity = 64;
            var events = stackalloc byte[capacity * 16];
            while (true)
            {
                var count = Libc.EpollWait(Number(_epoll), events, capacity, -1);
                if (count < 0)
                {
                    if (Marshal.GetLastPInvokeError() == Libc.Eintr) continue;
                    throw Libc.Failure("epoll_wait");
                }
                for (var i = 0; i < count; i++)
                {
                    var data = new ReadOnlySpan<byte>(events + (i * Libc.EpollEventSize) + Libc.EpollDataOffset, 8);
                    Remove(BinaryPrimitives.ReadUInt64LittleEndian(data))?.Completion.TrySetResult();
                }
            }
        }

        private static int Number(SafeHandle handle) => (int)handle.DangerousGetHandle();

        private sealed class Registration(SafeFileHandle duplicate)
        {
            public SafeFileHandle Duplicate { get; } = duplicate;

            public TaskCompletionSource Completion { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }
}
