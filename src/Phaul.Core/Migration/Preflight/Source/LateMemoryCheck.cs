// A program that still gets its memory through userfaultfd must not be dumped: CRIU knows nothing of that, and would move zeros.

using Phaul.Engines;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>Memory that somebody else delivers on demand: after a lazy restore, for one.</summary>
internal static class LateMemoryCheck
{
    // A lazy restore takes half a second a GiB after the program runs; a move back right after a move is worth waiting for.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Waits a while for such memory to arrive, then says whose is missing.</summary>
    public static async Task<IReadOnlyList<Finding>> RunAsync(ProcessTree tree, ProcFileSystem proc, CancellationToken cancellationToken)
    {
        for (var waited = TimeSpan.Zero; ; waited += Pause)
        {
            var late = tree.Members.Where(member => IsLate(proc, member.Pid) == true).ToList();
            if (late.Count == 0)
                return [];
            if (waited >= Patience)
            {
                return [.. late.Select(member => new Finding(
                    CheckVerdict.Failed,
                    $"Process {member.Pid} ({member.Command}) gets memory from another process as it touches it (userfaultfd): CRIU would move zeros in its place.",
                    "If it was migrated to this host a moment ago, wait until its memory is complete (criu lazy-pages has ended)."))];
            }

            await Task.Delay(Pause, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Processes that lack memory and are none of a tree's: if they began after it, it may have forked them.</summary>
    /// <param name="proc">This host's.</param>
    /// <param name="known">The tree's pids.</param>
    /// <param name="since">When it began, in clock ticks since boot.</param>
    internal static IReadOnlyList<ProcStat> StraysOf(ProcFileSystem proc, IEnumerable<int> known, ulong since)
    {
        var pids = known.ToHashSet();
        return [.. proc.ReadNumbers("").Select(pid => ProcStat.Read(proc, pid)).OfType<ProcStat>()
            .Where(stat => !pids.Contains(stat.Pid) && !stat.HasEnded && stat.StartTime >= since && IsLate(proc, stat.Pid) == true)];
    }

    /// <summary>Whether a mapping has the flag <c>um</c> (proc(5), smaps): missing pages are somebody's to deliver.</summary>
    /// <returns>Null: it cannot be looked at, or is ending and has no memory any more.</returns>
    internal static bool? IsLate(ProcFileSystem proc, int pid)
    {
        try
        {
            bool? isLate = null;
            foreach (var line in File.ReadLines(proc.PathOf($"{pid}/smaps")).Where(line => line.StartsWith("VmFlags:", StringComparison.Ordinal)))
            {
                if (line.Split(' ').Contains("um"))
                    return true;
                isLate = false;
            }

            return isLate;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
