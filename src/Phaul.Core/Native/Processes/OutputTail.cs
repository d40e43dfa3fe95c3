// The last part of what a child writes, however much it writes.
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Reads a pipe for as long as its owner lives, and keeps the last 16 KiB.</summary>
internal sealed class OutputTail : IDisposable, IAsyncDisposable
{
    private const int Capacity = 16 * 1024;

    private readonly object _gate = new();
    private readonly byte[] _kept = new byte[Capacity];
    private readonly SafeFileHandle _read;
    private readonly CancellationTokenSource _stop = new();
    private SafeFileHandle? _write;
    private long _total;
    private Task _pump = Task.CompletedTask;

    public unsafe OutputTail()
    {
        var ends = stackalloc int[2];
        Libc.Check(Libc.Pipe(ends, Libc.OpenCloseOnExec), "pipe2");
        _read = new SafeFileHandle(ends[0], ownsHandle: true);
        _write = new SafeFileHandle(ends[1], ownsHandle: true);
        // Only our end must not block: the child's is a file description of its own.
        Libc.Check(Libc.Fcntl(ends[0], Libc.SetStatusFlags, Libc.OpenNonBlocking), "fcntl(F_SETFL)");
    }

    /// <summary>What is kept, as text.</summary>
    public string Text
    {
        get
        {
            lock (_gate)
            {
                var start = (int)(_total % Capacity);
                var bytes = _total <= Capacity ? _kept[..(int)_total] : [.. _kept[start..], .. _kept[..start]];
                return Encoding.UTF8.GetString(bytes);
            }
        }
    }

    /// <summary>Gives out the writing end, once, and starts to read. The caller closes it when the child has it.</summary>
    public SafeFileHandle OpenWriter()
    {
        var write = _write ?? throw new InvalidOperationException("The writing end has been given out.");
        _write = null;
        _pump = PumpAsync(_stop.Token);
        return write;
    }

    /// <summary>Takes what is in the pipe now. Its end is not waited for: after the child's others may still hold it open.</summary>
    /// <returns>Whether more may come.</returns>
    public unsafe bool Drain()
    {
        lock (_gate)
        {
            var buffer = stackalloc byte[4096];
            for (var rounds = 0; rounds < 1024; rounds++)
            {
                if (_read.IsClosed) return false;
                var length = (int)Libc.Read((int)_read.DangerousGetHandle(), buffer, 4096);
                if (length == 0) return false;
                if (length < 0) return Marshal.GetLastPInvokeError() is Libc.Eagain or Libc.Eintr;
                for (var i = 0; i < length; i++) _kept[_total++ % Capacity] = buffer[i];
            }
            return true;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Cancel();
        _write?.Dispose();
        lock (_gate) _read.Dispose();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Dispose();
        await _pump.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stop.Dispose();
    }

    private async Task PumpAsync(CancellationToken cancellationToken)
    {
        do await DescriptorWaiter.WaitReadableAsync(_read, cancellationToken).ConfigureAwait(false);
        while (Drain());
    }
}
