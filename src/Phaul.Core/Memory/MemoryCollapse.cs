// Memory in huge pages before the freeze: what CRIU then walks while the program is frozen is a five-hundredth as much.

using System.Diagnostics;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Memory;

/// <summary>What came of it.</summary>
/// <param name="Bytes">In huge pages now.</param>
/// <param name="Elapsed">The time it took.</param>
/// <param name="Obstacle">Why not all of it is; null: all that could be.</param>
internal sealed record CollapseOutcome(long Bytes, TimeSpan Elapsed, string? Obstacle);

/// <summary>
/// Has the kernel gather what a running tree has of its own memory into huge pages (MADV_COLLAPSE, Linux 6.1). Only where all of a huge
/// page is there already, and the process's own, so that none becomes larger. The processes run meanwhile, and wait for a huge page that is being made.
/// </summary>
internal static class MemoryCollapse
{
    private const int Collapse = 25; // MADV_COLLAPSE
    private const ulong HugePage = 2 << 20;
    private const ulong OwnAndPresent = ProcPagemap.Present | ProcPagemap.MappedHereAlone;
    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    /// <summary>Does it.</summary>
    /// <param name="pids">Of processes; one that has ended by then is left out.</param>
    /// <param name="limit">Goes no further after that.</param>
    /// <param name="cancellationToken">Likewise, and is said.</param>
    /// <exception cref="OperationCanceledException">Cancelled. What was gathered stays so.</exception>
    public static Task<CollapseOutcome> RunAsync(IReadOnlyList<int> pids, TimeSpan limit, CancellationToken cancellationToken) =>
        Task.Run(() => Run(pids, limit, cancellationToken), cancellationToken);

    private static CollapseOutcome Run(IReadOnlyList<int> pids, TimeSpan limit, CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        var (bytes, left, obstacle) = (0L, 0L, (string?)null);
        foreach (var pid in pids)
        {
            using var process = ProcessDescriptor.TryOpen(pid);
            if (process is null)
                continue;
            try
            {
                using var pagemap = ProcPagemap.Open(pid);
                foreach (var (start, isWhole) in ProcMapping.Read(ProcFileSystem.Host, pid).Where(IsOwn).SelectMany(mapping => HugePagesIn(mapping, pagemap)))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    if (clock.Elapsed > limit)
                        return new CollapseOutcome(bytes, clock.Elapsed, $"it was not done within {limit.TotalSeconds:0} s");
                    if (!isWhole)
                        continue;
                    if (process.TryAdvise(start, HugePage, Collapse))
                        bytes += (long)HugePage;
                    else
                        left += (long)HugePage;
                }
            }
            catch (Exception exception) when (exception is NativeException or IOException or UnauthorizedAccessException)
            {
                if (!process.HasExited)
                    obstacle ??= exception.Message;
            }
        }

        return new CollapseOutcome(bytes, clock.Elapsed, obstacle ?? (left > 0 ? $"the kernel made none for {left >> 20} MiB" : null));
    }

    private static bool IsOwn(ProcMapping mapping) => mapping is { IsShared: false, IsWritable: true, Inode: 0 };

    /// <summary>
    /// The huge pages that have room in a mapping, and whether all of each is there, and the process's alone: what it shares with a child
    /// since a fork, or zeros that it has only read, would be copied.
    /// </summary>
    private static IEnumerable<(ulong Start, bool IsWhole)> HugePagesIn(ProcMapping mapping, ProcPagemap pagemap)
    {
        var entries = new ulong[HugePage / PageSize];
        for (var start = (mapping.Start + HugePage - 1) / HugePage * HugePage; start + HugePage <= mapping.End; start += HugePage)
        {
            if (pagemap.Read(start, entries) < entries.Length)
                yield break;
            var isWhole = Array.TrueForAll(entries, entry => (entry & (OwnAndPresent | ProcPagemap.OfFileOrShared)) == OwnAndPresent);
            yield return (start, isWhole);
        }
    }
}
