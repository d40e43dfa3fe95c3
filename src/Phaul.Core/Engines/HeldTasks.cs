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
    /// <summary>Whether any process of the tree that is alive is still held.</summary>
    public static bool AnyIn(IEnumerable<int> pids, ProcFileSystem? proc = null) => pids.Any(pid => IsHeld(pid, proc ?? ProcFileSystem.Host));

    private static bool IsHeld(int pid, ProcFileSystem proc)
    {
        // NUMBER ARGUMENT... STACK INSTRUCTION; "running" has no place to look at, and is no held task.
        if (proc.ReadText($"{pid}/syscall")?.Split(' ', StringSplitOptions.TrimEntries) is not { Length: 9 } fields
            || Address(fields[1]) is not { } futex
            || Address(fields[8]) is not { } instruction)
        {
            return false;
        }

        var mappings = ProcMapping.Read(proc, pid);
        return mappings.Any(mapping => Holds(mapping, instruction) && mapping is { IsExecutable: true, Inode: 0, Path: "" })
            && mappings.Any(mapping => Holds(mapping, futex) && mapping is { IsShared: true, IsSharedMemory: true });
    }

    private static bool Holds(ProcMapping mapping, ulong address) => mapping.Start <= address && address < mapping.End;

    private static ulong? Address(string text) =>
        text.StartsWith("0x", StringComparison.Ordinal)
        && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var value)
            ? value
            : null;
}
