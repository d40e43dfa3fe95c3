// A process and all its descendants, captured from /proc: what a migration moves.

using System.Globalization;
using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>
/// A process tree at one moment. While the tree runs it may change right afterwards; while CRIU has it frozen it is exact.
/// Zombies belong to it: CRIU moves them, too, and their pids must be free at the destination.
/// </summary>
public sealed class ProcessTree
{
    /// <summary>More processes than this are not taken for one tree.</summary>
    internal const int MaxMembers = 65_536;

    internal ProcessTree(IReadOnlyList<TreeMember> members, string bootId)
    {
        Members = members;
        BootId = bootId;
    }

    /// <summary>The root's pid.</summary>
    public int RootPid => Root.Pid;

    /// <summary>The root.</summary>
    public TreeMember Root => Members[0];

    /// <summary>The root first, every parent before its children.</summary>
    public IReadOnlyList<TreeMember> Members { get; }

    /// <summary>The boot of this host in which the tree was captured (<c>/proc/sys/kernel/random/boot_id</c>).</summary>
    public string BootId { get; }

    /// <summary>Captures the tree below a process. Nothing is disturbed.</summary>
    /// <param name="rootPid">The pid of its root.</param>
    /// <exception cref="PhaulException">
    /// <see cref="PhaulErrorId.ProcessNotFound"/>: there is no such process, or it has ended.
    /// <see cref="PhaulErrorId.InvalidRequest"/>: it cannot be moved: the init process, a kernel thread, a mere thread, the
    /// caller itself or one of the caller's ancestors.
    /// </exception>
    public static ProcessTree Capture(int rootPid) => Capture(rootPid, ProcFileSystem.Host, Environment.ProcessId);

    /// <summary>As above, for the procfs and the caller that are given.</summary>
    internal static ProcessTree Capture(int rootPid, ProcFileSystem proc, int callerPid)
    {
        var rootStat = CheckRoot(rootPid, proc, callerPid);
        var children = new ChildFinder(proc);
        var members = new List<TreeMember>();
        var queue = new Queue<ProcStat>([rootStat]);
        var seen = new HashSet<int> { rootPid };
        while (queue.TryDequeue(out var stat))
        {
            if (members.Count == MaxMembers)
                throw Refused($"The tree of process {rootPid} has more than {MaxMembers} processes.");

            var threads = proc.ReadNumbers($"{stat.Pid}/task");
            if (threads.Count == 0)
            {
                // Ended since its stat was read. Its children are no longer below it, but below whoever inherited them.
                if (stat.Pid == rootPid) throw NotFound(rootPid);
                continue;
            }

            members.Add(new TreeMember(
                stat.Pid, stat.StartTime, stat.ParentPid, stat.Command, stat.SessionId, stat.ProcessGroupId, threads));
            foreach (int child in children.Of(stat.Pid, threads))
            {
                // The parent is compared because the pid may be another's by now.
                if (seen.Add(child) && ProcStat.Read(proc, child) is { } found && found.ParentPid == stat.Pid) queue.Enqueue(found);
            }
        }

        return new ProcessTree(members, proc.ReadText("sys/kernel/random/boot_id")?.Trim() ?? "");
    }

    private static ProcStat CheckRoot(int pid, ProcFileSystem proc, int callerPid)
    {
        if (pid < 1) throw Refused($"{pid} is not a process id.");
        if (pid == 1) throw Refused("Process 1 is the init process of this host (or container) and cannot be moved from inside.");

        var stat = ProcStat.Read(proc, pid) ?? throw NotFound(pid);
        if (stat.IsKernelThread) throw Refused($"Process {pid} ({stat.Command}) is a kernel thread.");
        if (proc.ReadText($"{pid}/status") is { } status && ThreadGroupOf(status) is int group && group != pid)
            throw Refused($"{pid} is a thread of process {group}; migrate the process.");
        if (stat.HasEnded) throw NotFound(pid);
        if (pid == callerPid) throw Refused($"Process {pid} ({stat.Command}) is the one that would do the migration.");

        for (int ancestor = callerPid, steps = 0; ancestor > 1 && steps < 4096; steps++)
        {
            ancestor = ProcStat.Read(proc, ancestor)?.ParentPid ?? 0;
            if (ancestor == pid)
            {
                throw Refused(
                    $"Process {pid} ({stat.Command}) is an ancestor of the process that would do the migration ({callerPid}): "
                    + "it would be frozen together with what it moves.");
            }
        }

        return stat;
    }

    private static int? ThreadGroupOf(string status)
    {
        foreach (var line in status.AsSpan().EnumerateLines())
        {
            if (line.StartsWith("Tgid:") && int.TryParse(line[5..].Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int group))
                return group;
        }

        return null;
    }

    private static PhaulException NotFound(int pid) =>
        new(PhaulErrorId.ProcessNotFound, $"There is no process {pid}, or it has ended.") { ProgramState = ProgramState.Gone };

    private static PhaulException Refused(string message) => new(PhaulErrorId.InvalidRequest, message);

    // Children by the kernel's own lists where it keeps them (CONFIG_PROC_CHILDREN), by everyone's parent otherwise.
    private sealed class ChildFinder(ProcFileSystem proc)
    {
        private ILookup<int, int>? _byParent;

        public IEnumerable<int> Of(int pid, IReadOnlyList<int> threads)
        {
            if (_byParent is not null) return _byParent[pid];

            var found = new List<int>();
            foreach (int thread in threads)
            {
                if (proc.ReadText($"{pid}/task/{thread}/children") is { } text)
                {
                    foreach (string word in text.Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
                    {
                        if (int.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out int child)) found.Add(child);
                    }
                }
                else if (Directory.Exists(proc.PathOf($"{pid}/task/{thread}")))
                {
                    _byParent = proc.ReadNumbers("")
                        .Select(other => ProcStat.Read(proc, other))
                        .OfType<ProcStat>()
                        .ToLookup(stat => stat.ParentPid, stat => stat.Pid);
                    return _byParent[pid];
                }
            }

            return found;
        }
    }
}
