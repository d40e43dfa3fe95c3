// Telling a tree that CRIU has restored and never resumed from one that runs.

using System.Globalization;
using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>
/// After a crash of CRIU and of whoever drove it, a restored tree is either asleep for ever or runs, and nobody is left to ask.
/// Until CRIU resumes a task, it waits in code that CRIU has mapped into it (an anonymous mapping that may be executed), on a
/// futex that it shares with CRIU (shared anonymous memory); CRIU unmaps both before the task runs. Seen with CRIU 4.2.1.
/// </summary>
internal static class HeldTasks
{
    /// <summary>What a tree does whose processes are these. One that cannot be looked at makes all of it unknown.</summary>
    public static TreeHold Look(IEnumerable<int> pids, ProcFileSystem? proc = null)
    {
        var hold = TreeHold.Running;
        foreach (var pid in pids)
        {
            switch (Look(pid, proc ?? ProcFileSystem.Host))
            {
                case TreeHold.Unknown:
                    return TreeHold.Unknown;
                case TreeHold.Held:
                    hold = TreeHold.Held;
                    break;
            }
        }

        return hold;
    }

    private static TreeHold Look(int pid, ProcFileSystem proc)
    {
        // Not every kernel has the file, and not everybody may read it.
        if (proc.ReadText($"{pid}/syscall") is not { } text)
            return IsThere(pid, proc) ? TreeHold.Unknown : TreeHold.Running;
        // NUMBER ARGUMENT... STACK INSTRUCTION; "running" has no place to look at, and is no held task.
        if (text.Split(' ', StringSplitOptions.TrimEntries) is not { Length: 9 } fields
            || Address(fields[1]) is not { } futex
            || Address(fields[8]) is not { } instruction)
        {
            return TreeHold.Running;
        }

        var mappings = ProcMapping.Read(proc, pid);
        if (mappings.Count == 0)
            return IsThere(pid, proc) ? TreeHold.Unknown : TreeHold.Running;
        return mappings.Any(mapping => Holds(mapping, instruction) && mapping is { IsExecutable: true, Inode: 0, Path: "" })
            && mappings.Any(mapping => Holds(mapping, futex) && mapping is { IsShared: true, IsSharedMemory: true })
            ? TreeHold.Held
            : TreeHold.Running;
    }

    // A zombie has nothing to look at, and is not held.
    private static bool IsThere(int pid, ProcFileSystem proc) => ProcStat.Read(proc, pid) is { IsEnding: false };

    private static bool Holds(ProcMapping mapping, ulong address) => mapping.Start <= address && address < mapping.End;

    private static ulong? Address(string text) =>
        text.StartsWith("0x", StringComparison.Ordinal)
        && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value)
            ? value
            : null;
}

/// <summary>What a restored tree does that nobody watches any more.</summary>
internal enum TreeHold
{
    /// <summary>At least one process sleeps in CRIU's code and will for ever: the tree has not run.</summary>
    Held,

    /// <summary>None is held.</summary>
    Running,

    /// <summary>It cannot be told (<c>/proc/PID/syscall</c> or <c>maps</c> cannot be read): neither killed nor restored again.</summary>
    Unknown,
}
