// One process that runs already: gives it its memory, on demand and in the background, and follows what it does meanwhile.

using System.Buffers;
using Phaul.Native;

namespace Phaul.Memory;

/// <summary>Reads late memory of one process: as many bytes of whole pages as there are beside each other from an address of the dump on.</summary>
internal delegate int ReadLateMemory(ulong imageAddress, Span<byte> buffer);

/// <summary>
/// The memory of one process. All that is done to it is done by <see cref="ServeAsync"/>, one thing after the other, so that what it
/// knows of the process's mappings is what the kernel has told, in that order.
/// </summary>
internal sealed class LateProcess(UserFaultDescriptor fault, LateRanges ranges, ReadLateMemory read, Action<LateProcess> forked) : IDisposable
{
    // Whoever waits for one page will soon want its neighbours; more would have it wait for them
    private const int FaultBytes = 64 << 10;
    private const int FillBytes = 256 << 10;
    private const int SoonRounds = 20;
    private static readonly int PageSize = Environment.SystemPageSize;

    private readonly Queue<ulong> _faults = new();
    private bool _isGone;
    private int _rounds;

    /// <summary>The process's userfaultfd: as long as anybody holds it, it waits for what it lacks.</summary>
    public UserFaultDescriptor Fault => fault;

    /// <summary>Gives it all it lacks. Comes back when it has everything, or is gone.</summary>
    /// <param name="runs">Ends when it may be filled in the background: before that its mappings are still being made.</param>
    /// <param name="cancellationToken">Gives up: it then stands still where it lacks memory.</param>
    /// <exception cref="PhaulException">RestoreFailed: the memory cannot be read.</exception>
    /// <exception cref="NativeException">The kernel does not take it.</exception>
    public async Task ServeAsync(Task runs, CancellationToken cancellationToken)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(FillBytes);
        try
        {
            while (!_isGone)
            {
                cancellationToken.ThrowIfCancellationRequested();
                var news = TakeMessages();
                var served = AnswerFaults(buffer);
                if (ranges.IsEmpty && _faults.Count == 0 && runs.IsCompleted)
                    return;
                if (news || served)
                    _rounds = 0;
                else if (_faults.Count > 0)
                    await ChangedAsync(cancellationToken).ConfigureAwait(false);
                else if (runs.IsCompleted)
                    await FillAsync(buffer, cancellationToken).ConfigureAwait(false);
                else
                    await NewsOrRunAsync(runs, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => fault.Dispose();

    private async Task NewsOrRunAsync(Task runs, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var news = DescriptorWaiter.WaitReadableAsync(fault.Descriptor, either.Token);
        await Task.WhenAny(news, runs).ConfigureAwait(false);
        await either.CancelAsync().ConfigureAwait(false);
        await news.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private bool TakeMessages()
    {
        var any = false;
        while (fault.TryRead() is { } message)
        {
            any = true;
            switch (message.Event)
            {
                case UserFaultEvent.PageFault:
                    _faults.Enqueue(message.First & ~(ulong)(PageSize - 1));
                    break;
                case UserFaultEvent.Fork:
                    forked(new LateProcess(
                        new UserFaultDescriptor(new Microsoft.Win32.SafeHandles.SafeFileHandle(message.Child, ownsHandle: true)),
                        ranges.Clone(), read, forked));
                    break;
                case UserFaultEvent.Remap:
                    ranges.Move(message.First, message.Second, message.Length);
                    break;
                case UserFaultEvent.Remove:
                    // The mapping stays, and what is there now is zeros
                    fault.LeaveToKernel(message.First, message.Second);
                    ranges.Remove(message.First, message.Second);
                    break;
                case UserFaultEvent.Unmap:
                    ranges.Remove(message.First, message.Second);
                    break;
            }
        }

        return any;
    }

    /// <returns>Whether one was answered.</returns>
    private bool AnswerFaults(byte[] buffer)
    {
        var any = false;
        for (var left = _faults.Count; left > 0 && !_isGone; left--)
        {
            var address = _faults.Dequeue();
            if (AnswerFault(address, buffer))
                any = true;
            else
                _faults.Enqueue(address);
        }

        return any;
    }

    private bool AnswerFault(ulong address, byte[] buffer)
    {
        if (ranges.At(address) is { } range)
            return Give(range, FaultBytes, buffer);
        // What is in no image was never written
        switch (fault.TryZero(address))
        {
            case UserFaultAnswer.Changing:
                return false;
            case UserFaultAnswer.Gone:
                _isGone = true;
                return true;
            case UserFaultAnswer.Present or UserFaultAnswer.NotMapped:
                fault.WakeAt(address, PageSize);
                return true;
            default:
                return true;
        }
    }

    private async Task FillAsync(byte[] buffer, CancellationToken cancellationToken)
    {
        if (!Give(ranges.First, FillBytes, buffer))
        {
            await ChangedAsync(cancellationToken).ConfigureAwait(false);
            return;
        }

        _rounds = 0;
        // There may be many processes, and few threads for all of them
        await Task.Yield();
    }

    /// <summary>It is just changing its mappings: the kernel says how in a moment, or after a while if it is large.</summary>
    private async Task ChangedAsync(CancellationToken cancellationToken)
    {
        if (++_rounds < SoonRounds)
            await Task.Yield();
        else
            await Task.Delay(1, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Gives as much from a range's beginning on.</summary>
    /// <returns>False: it is just changing its mappings.</returns>
    private bool Give(LateRange range, int most, byte[] buffer)
    {
        var length = read(range.ImageStart, buffer.AsSpan(0, (int)Math.Min((ulong)most, range.End - range.Start)));
        if (length == 0)
            throw new PhaulException(PhaulErrorId.RestoreFailed, $"The memory at 0x{range.ImageStart:x} was never received");
        switch (fault.TryCopy(range.Start, buffer.AsSpan(0, length), out var given))
        {
            case UserFaultAnswer.Given:
                ranges.Remove(range.Start, range.Start + (ulong)given);
                return true;
            case UserFaultAnswer.Changing:
                return false;
            case UserFaultAnswer.Gone:
                _isGone = true;
                return true;
            // The program has split a mapping: what does not fit as a whole may do so by the page
            case UserFaultAnswer.NotMapped when length > PageSize:
                return GiveByPage(range, buffer.AsSpan(0, length));
            default:
                GiveUp(range.Start);
                return true;
        }
    }

    private bool GiveByPage(LateRange range, ReadOnlySpan<byte> pages)
    {
        for (var at = 0; at < pages.Length; at += PageSize)
        {
            var address = range.Start + (ulong)at;
            switch (fault.TryCopy(address, pages.Slice(at, PageSize), out _))
            {
                case UserFaultAnswer.Given:
                    ranges.Remove(address, address + (ulong)PageSize);
                    break;
                case UserFaultAnswer.Changing:
                    // What was given is no news to the kernel, but it is to whoever asks again
                    return at > 0;
                case UserFaultAnswer.Gone:
                    _isGone = true;
                    return true;
                default:
                    GiveUp(address);
                    break;
            }
        }

        return true;
    }

    /// <summary>The page is there, or there is no place for it: whoever waits for it shall see for himself.</summary>
    private void GiveUp(ulong address)
    {
        ranges.Remove(address, address + (ulong)PageSize);
        fault.WakeAt(address, PageSize);
    }
}
