// Watches a process tree through pidfds, so that its death can be proved, and brought about, without mistaking another process for it.

using System.Diagnostics;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>
/// One pidfd for every process of a tree. A process counts as exited once all its threads have ended, also while it is a
/// zombie: it can never run an instruction again.
/// </summary>
public sealed class TreeWatch : IDisposable
{
    private const int SoonLooks = 100;

    private readonly List<Entry> _entries;
    private readonly ProcFileSystem _proc;

    private TreeWatch(ProcessTree tree, List<Entry> entries, ProcFileSystem proc)
    {
        Tree = tree;
        _entries = entries;
        _proc = proc;
    }

    /// <summary>The tree that is watched.</summary>
    public ProcessTree Tree { get; }

    /// <summary>The processes that have not exited yet.</summary>
    public IReadOnlyList<TreeMember> Alive => [.. _entries.Where(entry => !entry.HasExited).Select(entry => entry.Member)];

    /// <summary>The processes that have exited.</summary>
    public IReadOnlyList<TreeMember> Exited => [.. _entries.Where(entry => entry.HasExited).Select(entry => entry.Member)];

    /// <summary>Opens a pidfd for each process of a tree. One that is gone already counts as exited.</summary>
    /// <exception cref="NativeException">A process lives but could not be watched (too many open descriptors, for one).</exception>
    public static TreeWatch Open(ProcessTree tree) => Open(tree, ProcFileSystem.Host);

    /// <summary>
    /// Whether a member that is still there has been killed and is on its way out: giving back hundreds of gigabytes takes the
    /// kernel a while.
    /// </summary>
    internal bool IsAnyEnding => Alive.Any(member =>
        ProcStat.Read(_proc, member.Pid) is { IsEnding: true } || ProcStatus.Read(_proc, $"{member.Pid}") is { IsKillPending: true });

    internal static TreeWatch Open(ProcessTree tree, ProcFileSystem proc)
    {
        var entries = new List<Entry>(tree.Members.Count);
        try
        {
            foreach (var member in tree.Members)
            {
                // The start time is read after the pidfd was opened: if it is the member's, the member was alive when the
                // pidfd was opened, and so the pidfd is the member's; if not, the pid was another's already.
                var descriptor = ProcessDescriptor.TryOpen(member.Pid);
                var entry = new Entry(member, descriptor);
                entries.Add(entry);
                if (descriptor is null)
                    continue;
                var startTime = ProcStat.Read(proc, member.Pid)?.StartTime;
                // What cannot be read is not dead: this is the proof on which the other copy runs.
                if (startTime is null && !descriptor.HasExited)
                    throw new NativeException($"open({proc.PathOf($"{member.Pid}/stat")})", Libc.Eio);
                if (startTime != member.StartTime)
                {
                    entries[^1] = entry with { Descriptor = null };
                    descriptor.Dispose();
                }
            }

            return new TreeWatch(tree, entries, proc);
        }
        catch
        {
            entries.ForEach(entry => entry.Descriptor?.Dispose());
            throw;
        }
    }

    /// <summary>Waits until every process has exited.</summary>
    /// <param name="limit">How long at most; zero only looks.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    /// <returns>Whether all have exited; <see cref="Alive"/> names those that have not.</returns>
    public async Task<bool> WaitAllExitedAsync(TimeSpan limit, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (_entries.TrueForAll(entry => entry.HasExited)) return true;
        if (limit <= TimeSpan.Zero) return false;

        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(limit);
        try
        {
            await Task.WhenAll(_entries.Select(entry => entry.Descriptor?.WaitForExitAsync(timeout.Token) ?? Task.CompletedTask))
                .ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return _entries.TrueForAll(entry => entry.HasExited);
        }
    }

    /// <summary>
    /// Waits until no process can ever run an instruction of its program again: every thread has ended, or the kernel has begun to end it
    /// (PF_EXITING, which nothing takes back). Giving back gigabytes of memory comes after that, and takes the kernel a while.
    /// </summary>
    /// <param name="limit">How long at most.</param>
    /// <param name="cancellationToken">Gives up waiting.</param>
    /// <returns>Whether it is so; <see cref="Alive"/> may still name some of them.</returns>
    public async Task<bool> WaitAllEndingAsync(TimeSpan limit, CancellationToken cancellationToken = default)
    {
        var waited = Stopwatch.StartNew();
        for (var looks = 0; ; looks++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_entries.TrueForAll(entry => entry.HasExited || IsEnding(entry.Member)))
                return true;
            if (waited.Elapsed >= limit)
                return false;
            // A killed task wakes within microseconds; one in the middle of a system call may take long
            if (looks < SoonLooks)
                await Task.Yield();
            else
                await Task.Delay(1, cancellationToken).ConfigureAwait(false);
        }
    }

    private bool IsEnding(TreeMember member)
    {
        var threads = _proc.ReadNumbers($"{member.Pid}/task");
        // What cannot be read may be gone, have become the leader by exec, or just not be readable: it is looked at again. And one that
        // ended after it was listed may have left another behind
        return threads.Count > 0
            && threads.All(thread => ProcStat.Parse(_proc.ReadText($"{member.Pid}/task/{thread}/stat") ?? "") is { IsEnding: true } stat
                && (thread != member.Pid || stat.StartTime == member.StartTime))
            && _proc.ReadNumbers($"{member.Pid}/task").ToHashSet().IsSubsetOf(threads);
    }

    /// <summary>Sees to it that <see cref="Kill"/> will be allowed.</summary>
    /// <exception cref="NativeException">A process may not be signalled.</exception>
    public void RequireRightToKill()
    {
        foreach (var entry in _entries)
        {
            if (!entry.HasExited) entry.Descriptor!.SendSignal(0);
        }
    }

    /// <summary>Sends SIGKILL to every process that has not exited. Returns at once; the deaths are to be waited for.</summary>
    /// <exception cref="NativeException">A signal was refused.</exception>
    public void Kill()
    {
        foreach (var entry in _entries)
        {
            if (!entry.HasExited) entry.Descriptor!.SendSignal(Libc.SignalKill);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _entries.ForEach(entry => entry.Descriptor?.Dispose());

    private sealed record Entry(TreeMember Member, ProcessDescriptor? Descriptor)
    {
        public bool HasExited => Descriptor is null || Descriptor.HasExited;
    }
}
