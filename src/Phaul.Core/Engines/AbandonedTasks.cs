// What a CRIU leaves behind that is killed in the middle of a restore, before it has shown anybody what it made.

using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>
/// The tasks of a restore that nobody will finish: asleep for ever, children of init, and in the way of the next restore, since
/// they have the pids of the program.
/// </summary>
internal static class AbandonedTasks
{
    private const int Looks = 10;

    private static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan DeathLimit = TimeSpan.FromSeconds(10);

    /// <summary>Ends those among the pids that are such tasks. Whatever else has one of the pids is left alone.</summary>
    /// <param name="pids">The pids that the program was to have.</param>
    /// <param name="criuPath">The criu that made them: they may still be its copies.</param>
    /// <returns>Those that were killed.</returns>
    public static async Task<IReadOnlyList<int>> KillAsync(IReadOnlyList<int> pids, string criuPath)
    {
        var killed = new List<int>();
        // What CRIU had begun goes on until it misses CRIU, and only then tells itself from a program.
        for (var look = 0; look < Looks && pids.Any(pid => ProcStat.Read(ProcFileSystem.Host, pid) is { HasEnded: false }); look++)
        {
            if (look > 0)
                await Task.Delay(LookEvery).ConfigureAwait(false);
            await KillAsync(pids, criuPath, killed).ConfigureAwait(false);
        }

        return killed;
    }

    private static async Task KillAsync(IReadOnlyList<int> pids, string criuPath, List<int> killed)
    {
        foreach (var pid in pids)
        {
            try
            {
                using var descriptor = ProcessDescriptor.Open(pid);
                // Looked at with the pidfd in hand: it is the one that is killed.
                if (descriptor.HasExited || !IsAbandoned(pid, Path.GetFileName(criuPath)) || !descriptor.SendSignal(Libc.SignalKill))
                    continue;
                killed.Add(pid);
                await descriptor.WaitForExitAsync(CancellationToken.None).WaitAsync(DeathLimit).ConfigureAwait(false);
            }
            catch (Exception exception) when (exception is NativeException or TimeoutException)
            {
                // It is gone, or on its way out.
            }
        }
    }

    private static bool IsAbandoned(int pid, string criu)
    {
        var proc = ProcFileSystem.Host;
        // What another migration holds is below its CRIU, the root right below it. What nobody holds has init above it
        for (var stat = ProcStat.Read(proc, pid); stat is not { ParentPid: <= 1 }; stat = ProcStat.Read(proc, stat.ParentPid))
        {
            if (stat is null || IsCriu(proc, stat.ParentPid, criu))
                return false;
        }

        return IsCriu(proc, pid, criu) || HeldTasks.Look([pid], proc) == TreeHold.Held;
    }

    private static bool IsCriu(ProcFileSystem proc, int pid, string criu) =>
        proc.ReadLink($"{pid}/exe") is { } program && Path.GetFileName(program.Replace(" (deleted)", "", StringComparison.Ordinal)) == criu;
}
