// Pre-copy where nobody tracks what is written: memory is read while the program runs, and what has changed since is found by comparing.

using System.Diagnostics;
using Phaul.Engines;
using Phaul.Images;
using Phaul.Images.Pages;
using Phaul.Native;
using Phaul.Procfs;
using Phaul.Transport;

namespace Phaul;

/// <summary>
/// Plays CRIU towards the destination's page server, round after round, without stopping the program for a moment. The last word is
/// CRIU's own dump of everything, out of which <see cref="Filter"/> takes what the destination has: what was read while it was being
/// written, or was missed, is sent then.
/// </summary>
internal sealed class MemoryPrefetch : IDisposable
{
    private const int MostPages = 256;
    private static readonly int PageSize = Environment.SystemPageSize;

    private readonly int _rootPid;
    private readonly PhaulChannel _channel;
    private readonly PageServerFormat _format;
    private readonly SequenceReader _answers;
    private readonly byte[] _header;
    private readonly byte[] _buffer = new byte[MostPages * PageSize];
    private readonly List<(int From, int Length, bool IsSame)> _runs = [];
    private SentPages _sent = new();
    private long _bytesSent;

    /// <param name="rootPid">The tree.</param>
    /// <param name="channel">The pages channel; from the end of the last round on somebody else's.</param>
    /// <param name="format">What CRIU on this host speaks.</param>
    public MemoryPrefetch(int rootPid, PhaulChannel channel, PageServerFormat format)
    {
        (_rootPid, _channel, _format) = (rootPid, channel, format);
        _answers = new SequenceReader(channel);
        _header = new byte[(int)format];
    }

    /// <summary>Bytes of the page stream so far.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    /// <summary>What reading and comparing took of the last round, without the sending.</summary>
    public TimeSpan ComparingTime { get; private set; }

    /// <summary>What was swapped out in the last round: it moves while the program is frozen.</summary>
    public long SwappedBytes { get; private set; }

    /// <summary>For CRIU's dump; null as long as there are rounds.</summary>
    public PageFilter? Filter { get; private set; }

    /// <summary>Reads everything once, and sends what the round before has not got so.</summary>
    /// <returns>What it did; the program was not frozen.</returns>
    /// <exception cref="PhaulException">DumpFailed: the memory cannot be read; PageTransferFailed, or the connection's fault. The program runs on.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public Task<DumpStatistics> CopyAsync(CancellationToken cancellationToken) => Task.Run(() => RoundAsync(cancellationToken), cancellationToken);

    /// <summary>No more rounds: what comes next is CRIU's.</summary>
    public PageFilter End()
    {
        _answers.Dispose();
        return Filter = new PageFilter(_sent, _format);
    }

    /// <inheritdoc/>
    public void Dispose() => _answers.Dispose();

    private async Task<DumpStatistics> RoundAsync(CancellationToken cancellationToken)
    {
        using var writer = new SequenceWriter(_channel);
        var next = _sent.Next();
        var owners = new HashSet<PageOwner>();
        var (scanned, written, swapped) = (0L, 0L, 0L);
        var comparing = new Stopwatch();
        foreach (var member in ProcessTree.Capture(_rootPid).Members)
        {
            using var process = ProcessDescriptor.TryOpen(member.Pid);
            if (process is null)
                continue;
            try
            {
                // As CRIU calls it: by its number in the innermost of its namespaces
                using var memory = RunningMemory.TryOpen(member.Pid);
                if (memory is null || ProcStatus.Read(ProcFileSystem.Host, $"{member.Pid}") is not { NamespacePids: var pids })
                    continue;
                var owner = new PageOwner(PageOwnerKind.Task, (ulong)(pids is [.., var innermost] ? innermost : member.Pid));
                if (!owners.Add(owner))
                    continue;
                await WriteAsync(writer, new PageServerHeader(PageServerCommand.Open, PagemapFlags.None, 0, 0, owner.OnWire), cancellationToken).ConfigureAwait(false);
                foreach (var (start, pages, isAlone) in memory.Runs(MostPages, cancellationToken))
                {
                    ulong end = start + (ulong)(pages * PageSize);
                    for (var address = start; address < end;)
                    {
                        cancellationToken.ThrowIfCancellationRequested();
                        comparing.Start();
                        int length = memory.Read(address, _buffer.AsSpan(0, (int)(end - address)), isAlone);
                        var runs = Compare(owner, address, length, next);
                        comparing.Stop();
                        written += await SendAsync(writer, owner, address, runs, cancellationToken).ConfigureAwait(false);
                        scanned += length / PageSize;
                        // One that cannot be read is CRIU's
                        address += (ulong)(length > 0 ? length : PageSize);
                    }
                }

                swapped += memory.SwappedPages;
                _sent.Remove(owner);
            }
            catch (Exception exception) when (exception is NativeException or IOException or UnauthorizedAccessException)
            {
                // What was sent of it does no harm
                if (process.HasExited || ProcStat.Read(ProcFileSystem.Host, member.Pid) is not { IsEnding: false })
                    continue;
                throw new PhaulException(
                    PhaulErrorId.DumpFailed, $"The memory of process {member.Pid} ({member.Command}) cannot be read while it runs: {exception.Message}", exception)
                {
                    RecommendedAction = "Migrate as root, or with CAP_SYS_PTRACE; or with -Mode StopAndCopy / --mode stop-and-copy.",
                };
            }
        }

        await WriteAsync(writer, new PageServerHeader(PageServerCommand.Close, PagemapFlags.None, 0, 0, 0), cancellationToken).ConfigureAwait(false);
        await writer.FlushAsync(cancellationToken).ConfigureAwait(false);
        if (!await _answers.ReadExactlyAsync(new byte[sizeof(int)], cancellationToken).ConfigureAwait(false))
            throw new PhaulException(PhaulErrorId.PageTransferFailed, "The destination ended the page stream before it had everything");
        _sent = next;
        SwappedBytes = swapped * PageSize;
        ComparingTime = comparing.Elapsed;
        return new DumpStatistics { PagesScanned = scanned, PagesSkippedParent = scanned - written, PagesWritten = written };
    }

    /// <summary>Enters what was read, and finds out what the destination has of it.</summary>
    private List<(int From, int Length, bool IsSame)> Compare(PageOwner owner, ulong address, int length, SentPages next)
    {
        _runs.Clear();
        for (int at = 0; at < length; at += PageSize)
        {
            var hash = _sent.HashOf(_buffer.AsSpan(at, PageSize));
            bool isSame = _sent.Has(owner, address + (ulong)at, hash);
            next.Add(owner, address + (ulong)at, hash);
            if (_runs.Count > 0 && _runs[^1].IsSame == isSame)
                _runs[^1] = _runs[^1] with { Length = _runs[^1].Length + PageSize };
            else
                _runs.Add((at, PageSize, isSame));
        }

        return _runs;
    }

    /// <summary>Sends what was read: changed pages with their contents, the others as holes.</summary>
    /// <returns>How many pages were sent.</returns>
    private async ValueTask<long> SendAsync(
        SequenceWriter writer, PageOwner owner, ulong address, List<(int From, int Length, bool IsSame)> runs, CancellationToken cancellationToken)
    {
        long written = 0;
        foreach (var (from, length, isSame) in runs)
        {
            int pages = length / PageSize;
            var flags = isSame ? PagemapFlags.InParent : PagemapFlags.Present | PagemapFlags.Lazy;
            await WriteAsync(
                writer, new PageServerHeader(PageServerCommand.AddWithFlags, flags, (ulong)pages, address + (ulong)from, owner.OnWire), cancellationToken)
                .ConfigureAwait(false);
            if (isSame)
                continue;
            await writer.WriteAsync(_buffer.AsMemory(from, length), cancellationToken).ConfigureAwait(false);
            Interlocked.Add(ref _bytesSent, length);
            written += pages;
        }

        return written;
    }

    private ValueTask WriteAsync(SequenceWriter writer, PageServerHeader header, CancellationToken cancellationToken)
    {
        header.Write(_header, _format);
        Interlocked.Add(ref _bytesSent, _header.Length);
        return writer.WriteAsync(_header, cancellationToken);
    }
}
