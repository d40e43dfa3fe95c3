// /proc/PID/stat: who a task is, whose child, and when it began.

using System.Globalization;

namespace Phaul.Procfs;

/// <summary>The fields of proc_pid_stat(5) that matter here.</summary>
/// <param name="Pid">The process, or the thread where a thread's file was read.</param>
/// <param name="Command">The command name as the kernel has it: up to 15 bytes, any characters.</param>
/// <param name="State">One letter: R, S, D, T, t, Z, X, I.</param>
/// <param name="ParentPid">0 for the init process and for kernel threads' parent.</param>
/// <param name="ProcessGroupId">The process group; 0 where its leader is in another pid namespace.</param>
/// <param name="SessionId">The session; 0 where its leader is in another pid namespace.</param>
/// <param name="TerminalDevice">The controlling terminal's device number; 0: none.</param>
/// <param name="Flags">The kernel's PF_ flags.</param>
/// <param name="StartTime">Clock ticks since boot.</param>
internal sealed record ProcStat(
    int Pid, string Command, char State, int ParentPid, int ProcessGroupId, int SessionId, int TerminalDevice, uint Flags, ulong StartTime)
{
    private const uint KernelThreadFlag = 0x0020_0000;
    private const uint ExitingFlag = 0x0000_0004;

    /// <summary>It has no user space, and cannot be moved.</summary>
    public bool IsKernelThread => (Flags & KernelThreadFlag) != 0;

    /// <summary>It runs no more instructions of its program, whether or not it has given back everything yet.</summary>
    public bool IsEnding => HasEnded || (Flags & ExitingFlag) != 0;

    /// <summary>It has ended; only its exit status is left.</summary>
    public bool HasEnded => State is 'Z' or 'X' or 'x';

    /// <summary>Reads <c>/proc/PID/stat</c>; null if there is no such process.</summary>
    public static ProcStat? Read(ProcFileSystem proc, int pid) => proc.ReadText($"{pid}/stat") is { } text ? Parse(text) : null;

    /// <summary>Parses the line; null if it is not one.</summary>
    public static ProcStat? Parse(string text)
    {
        // The command may hold spaces, parentheses and line feeds: it ends at the last closing parenthesis.
        int open = text.IndexOf('(', StringComparison.Ordinal);
        int close = text.LastIndexOf(')');
        if (open < 2 || close < open || !TryParse(text.AsSpan(0, open - 1), out int pid)) return null;

        string[] fields = text[(close + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return fields.Length >= 20 && fields[0].Length == 1
            && TryParse(fields[1], out int parent) && TryParse(fields[2], out int group) && TryParse(fields[3], out int session)
            && TryParse(fields[4], out int terminal)
            && uint.TryParse(fields[6], NumberStyles.None, CultureInfo.InvariantCulture, out uint flags)
            && ulong.TryParse(fields[19], NumberStyles.None, CultureInfo.InvariantCulture, out ulong startTime)
            ? new ProcStat(pid, text[(open + 1)..close], fields[0][0], parent, group, session, terminal, flags, startTime)
            : null;
    }

    private static bool TryParse(ReadOnlySpan<char> text, out int number) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out number);
}
