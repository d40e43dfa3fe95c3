// One process that runs already: gives it its memory, on demand and in the background, and follows what it does meanwhile.

using System.Diagnostics;
using Phaul.Native;

namespace Phaul.Memory;

/// <summary>
/// Reads late memory of one process: as many bytes of whole pages as there are beside each other from an address of the dump on, at
/// once or after a while. The buffer is written to until the task has ended.
/// </summary>
internal delegate ValueTask<int> ReadLateMemory(ulong imageAddress, Memory<byte> buffer);

/// <summary>
/// The memory of one process. All that is done to it is done by <see cref="ServeAsync"/>, one thing after the other, so that what it
/// knows of the process's mappings is what the kernel has told, in that order. What is read meanwhile is given where it belongs when
/// it comes; what has moved by then is read again.
/// </summary>
/// <param name="fault">The process's; disposed with this.</param>
/// <param name="ranges">What it lacks.</param>
/// <param name="read">Has what it lacks.</param>
/// <param name="mayReadAhead">Whether more than one read may be under way before somebody waits for it.</param>
/// <param name="forked">Told of a child.</param>
internal sealed class LateProcess(
    UserFaultDescriptor fault, LateRanges ranges, ReadLateMemory read, Func<bool> mayReadAhead, Action<LateProcess> forked) : IDisposable
{
    // Whoever waits for one page will soon want its neighbours; more would have it wait for them
    private const int FaultBytes = 64 << 10;
    private const int FillBytes = 256 << 10;
    private const int FewReadings = 2;
    private const int SoonRounds = 20;

    // As long as somebody has just waited, nothing is to be in front of what he will wait for next
    private static readonly TimeSpan Calm = TimeSpan.FromMilliseconds(10);
    private static readonly int PageSize = Environment.SystemPageSize;

    private readonly List<ulong> _faults = [];
    private readonly LinkedList<Reading> _readings = new();
    private readonly Stack<byte[]> _buffers = new();
    private ulong _ahead;
    private bool _isGone;
    private int _rounds;
    private long _lastFault = long.MinValue / 2;

    /// <summary>The process's userfaultfd: as long as anybody holds it, it waits for what it lacks.</summary>
    public UserFaultDescriptor Fault => fault;

    /// <summary>What it lacks still. Only when nobody serves it.</summary>
    public LateRanges Lacking => ranges;

    /// <summary>Gives it all it lacks. Comes back when it has everything, or is gone.</summary>
    /// <param name="runs">Ends when it may be filled in the background: before that its mappings are still being made.</param>
    /// <param name="cancellationToken">Gives up: it then stands still where it lacks memory.</param>
    /// <exception cref="PhaulException">The memory cannot be read.</exception>
    /// <exception cref="NativeException">The kernel does not take it.</exception>
    public async Task ServeAsync(Task runs, CancellationToken cancellationToken)
    {
        try
        {
            while (!_isGone)
            {
                cancellationToken.ThrowIfCancellationRequested();
                // Looked at once a round: what it says must not change between the deeds and the wait, which would then not end
                var isRunning = runs.IsCompleted;
                var changed = TakeMessages();
                changed |= LookAtFaults();
                if (isRunning)
                    ReadAhead();
                changed |= await GiveWhatCameAsync().ConfigureAwait(false);
                if (_isGone || (ranges.IsEmpty && _faults.Count == 0 && _readings.Count == 0 && isRunning))
                    return;
                if (changed)
                    _rounds = 0;
                else if (_readings.Any(reading => reading.Bytes.IsCompleted) || (_readings.Count == 0 && (_faults.Count > 0 || isRunning)))
                    await ChangedAsync(cancellationToken).ConfigureAwait(false);
                else
                    await NewsAsync(isRunning ? null : runs, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            // Their buffers are written to
            foreach (var reading in _readings)
                await ((Task)reading.Bytes).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => fault.Dispose();

    /// <summary>Waits for what was read, for the kernel to tell something, or for the tree to run if it does not yet.</summary>
    private async Task NewsAsync(Task? runs, CancellationToken cancellationToken)
    {
        using var any = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var news = DescriptorWaiter.WaitReadableAsync(fault.Descriptor, any.Token);
        await Task.WhenAny([news, runs ?? news, .. _readings.Select(reading => reading.Bytes)]).ConfigureAwait(false);
        await any.CancelAsync().ConfigureAwait(false);
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
                    var page = message.First & ~(ulong)(PageSize - 1);
                    if (!_faults.Contains(page))
                        _faults.Add(page);
                    break;
                case UserFaultEvent.Fork:
                    forked(new LateProcess(
                        new UserFaultDescriptor(new Microsoft.Win32.SafeHandles.SafeFileHandle(message.Child, ownsHandle: true)),
                        ranges.Clone(), read, mayReadAhead, forked));
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

    /// <summary>Has read what somebody waits for, unless that is under way; what is nowhere is zeros.</summary>
    /// <returns>Whether the process has something that it had not.</returns>
    private bool LookAtFaults()
    {
        var any = false;
        foreach (var address in _faults.ToArray())
        {
            if (ranges.At(address) is { } range)
            {
                if (_readings.Any(reading => reading.Brings(range)))
                    continue;
                _lastFault = Stopwatch.GetTimestamp();
                Read(range, FaultBytes);
                // It will probably go on from there
                _ahead = Math.Min(range.End, range.Start + FaultBytes);
            }
            else if (Zero(address))
            {
                _faults.Remove(address);
                any = true;
            }
        }

        return any;
    }

    /// <summary>What is in no image was never written.</summary>
    /// <returns>False: it is just changing its mappings.</returns>
    private bool Zero(ulong address)
    {
        switch (fault.TryZero(address))
        {
            case UserFaultAnswer.Changing:
                return false;
            case UserFaultAnswer.Gone:
                _isGone = true;
                break;
            case UserFaultAnswer.Present or UserFaultAnswer.NotMapped:
                fault.WakeAt(address, PageSize);
                break;
        }

        return true;
    }

    /// <summary>Has the next of what it lacks read, round and round.</summary>
    private void ReadAhead()
    {
        var isCalm = Stopwatch.GetElapsedTime(_lastFault) > Calm;
        while (_readings.Count == 0 || (mayReadAhead() && (isCalm || _readings.Count < FewReadings)))
        {
            if (ranges.From(_ahead) is not { } range)
            {
                // What was not given the last time, for it had moved, has its turn again
                if (_ahead == 0 || _readings.Count > 0)
                    return;
                _ahead = 0;
                continue;
            }

            _ahead = Math.Min(range.End, range.Start + FillBytes);
            if (_readings.Any(reading => reading.Brings(range)))
                continue;
            Read(range, FillBytes);
            // What is here already is given before more is read: nobody is to wait behind all of it, nor memory to hold all of it
            if (_readings.Last!.Value.Bytes.IsCompleted)
                return;
        }
    }

    private void Read(LateRange range, int most)
    {
        var buffer = _buffers.Count > 0 ? _buffers.Pop() : new byte[FillBytes];
        var length = (int)Math.Min((ulong)most, range.End - range.Start);
        _readings.AddLast(new Reading(range.Start, range.ImageStart, buffer, length, read(range.ImageStart, buffer.AsMemory(0, length)).AsTask()));
    }

    /// <returns>Whether something was given, or turned out to have no place.</returns>
    private async ValueTask<bool> GiveWhatCameAsync()
    {
        var any = false;
        for (var node = _readings.First; node is not null && !_isGone;)
        {
            var (reading, next) = (node.Value, node.Next);
            if (reading.Bytes.IsCompleted)
            {
                var length = await reading.Bytes.ConfigureAwait(false);
                if (length == 0)
                    throw new PhaulException(PhaulErrorId.RestoreFailed, $"The memory at 0x{reading.ImageStart:x} was never received");
                if (!Give(reading, length))
                    break;
                any = true;
                _readings.Remove(node);
                _buffers.Push(reading.Buffer);
                // There may be many processes, and few threads for all of them
                await Task.Yield();
            }

            node = next;
        }

        return any;
    }

    /// <summary>It is just changing its mappings: the kernel says how in a moment, or after a while if it is large.</summary>
    private async Task ChangedAsync(CancellationToken cancellationToken)
    {
        if (++_rounds < SoonRounds)
            await Task.Yield();
        else
            await Task.Delay(1, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Gives what was read where it is lacking still.</summary>
    /// <returns>False: it is just changing its mappings.</returns>
    private bool Give(Reading reading, int length)
    {
        foreach (var range in ranges.Touching(reading.Start, reading.Start + (ulong)length))
        {
            if (!reading.Brings(range))
                continue;
            var part = range.Between(reading.Start, reading.Start + (ulong)length);
            if (!Give(part, reading.Buffer.AsSpan((int)(part.Start - reading.Start), (int)(part.End - part.Start))))
                return false;
        }

        return true;
    }

    /// <returns>False: it is just changing its mappings.</returns>
    private bool Give(LateRange range, ReadOnlySpan<byte> pages)
    {
        while (pages.Length > 0 && !_isGone)
        {
            var given = (long)PageSize;
            switch (fault.TryCopy(range.Start, pages, out var copied))
            {
                case UserFaultAnswer.Given:
                    given = copied;
                    break;
                case UserFaultAnswer.Changing:
                    return false;
                case UserFaultAnswer.Gone:
                    _isGone = true;
                    return true;
                // The program has split a mapping: what does not fit as a whole may do so by the page
                case UserFaultAnswer.NotMapped when pages.Length > PageSize:
                    if (!GiveByPage(range, pages))
                        return false;
                    given = pages.Length;
                    break;
                default:
                    fault.WakeAt(range.Start, PageSize);
                    break;
            }

            Has(range.Start, range.Start + (ulong)given);
            range = range.Between(range.Start + (ulong)given, range.End);
            pages = pages[(int)given..];
        }

        return true;
    }

    private bool GiveByPage(LateRange range, ReadOnlySpan<byte> pages)
    {
        for (var at = 0; at < pages.Length; at += PageSize)
        {
            if (!Give(range.Between(range.Start + (ulong)at, range.Start + (ulong)(at + PageSize)), pages.Slice(at, PageSize)))
                return false;
        }

        return true;
    }

    /// <summary>It lacks nothing there any more, and whoever waited for it goes on.</summary>
    private void Has(ulong from, ulong to)
    {
        ranges.Remove(from, to);
        _faults.RemoveAll(address => address >= from && address < to);
    }

    /// <summary>What is being read, and where it belonged when that was begun.</summary>
    private sealed record Reading(ulong Start, ulong ImageStart, byte[] Buffer, int Length, Task<int> Bytes)
    {
        /// <summary>Whether the beginning of a range is in it, and has not moved since.</summary>
        public bool Brings(LateRange range) =>
            range.Start - Start < (ulong)Length ? range.Start - Start == range.ImageStart - ImageStart
            : Start - range.Start < range.End - range.Start && Start - range.Start == ImageStart - range.ImageStart;
    }
}
