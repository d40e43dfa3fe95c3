// Looks at processes through /proc.
using Phaul.Procfs;

namespace Phaul.Tests.Criu;

internal static class Processes
{
    public static int ParentOf(int pid) =>
        ProcStat.Read(ProcFileSystem.Host, pid)?.ParentPid ?? throw new InvalidOperationException($"No process {pid}.");

    public static IReadOnlyList<int> ChildrenOf(int pid) =>
        [.. ProcFileSystem.Host.ReadNumbers("").Where(other => ProcStat.Read(ProcFileSystem.Host, other)?.ParentPid == pid)];

    public static bool IsCriu(int pid) =>
        ProcFileSystem.Host.ReadText($"{pid}/cmdline")?.Contains("criu", StringComparison.Ordinal) == true;
}
