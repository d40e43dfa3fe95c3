// Processes of a lab host as this machine sees them: signalled within a millisecond, not by starting a program there.

using Phaul.Native;
using Phaul.Procfs;
using Phaul.Tests.Lab;

namespace Phaul.Tests.Faults;

/// <summary>Finds and signals.</summary>
internal static class HostProcesses
{
    private const int Kill = 9, Continue = 18, Stop = 19;

    /// <summary>The processes of that name in a host; zombies do not count.</summary>
    public static IReadOnlyList<ProcStat> Of(LabHost host, string name)
    {
        var space = SpaceOf(host.Init);
        return [.. All().Where(stat => stat.Command == name && !stat.HasEnded && SpaceOf(stat.Pid) == space)];
    }

    /// <summary>CRIU itself, as Phaul started it, and page servers; not the tasks that it is just making into others.</summary>
    public static IReadOnlyList<ProcStat> CriuOf(LabHost host)
    {
        var phaul = Of(host, "phaul").Select(stat => stat.Pid).ToHashSet();
        var criu = Of(host, "criu");
        var main = criu.Where(stat => phaul.Contains(stat.ParentPid)).Select(stat => stat.Pid).ToHashSet();
        return [.. criu.Where(stat => main.Contains(stat.Pid))];
    }

    public static int KillAll(IEnumerable<ProcStat> processes) => Signal(processes, Kill);

    public static int StopAll(IEnumerable<ProcStat> processes) => Signal(processes, Stop);

    public static int ContinueAll(IEnumerable<ProcStat> processes) => Signal(processes, Continue);

    private static int Signal(IEnumerable<ProcStat> processes, int signal)
    {
        var reached = 0;
        foreach (var process in processes)
        {
            try
            {
                using var descriptor = ProcessDescriptor.Open(process.Pid);
                reached += descriptor.SendSignal(signal) ? 1 : 0;
                // One that is still giving back its memory would be taken for alive
                for (var looks = 0; signal == Kill && !descriptor.HasExited && looks < 10_000; looks++)
                    Thread.Sleep(1);
            }
            catch (NativeException)
            {
                // It has ended by itself meanwhile
            }
        }

        return reached;
    }

    private static IEnumerable<ProcStat> All() =>
        ProcFileSystem.Host.ReadNumbers("").Select(pid => ProcStat.Read(ProcFileSystem.Host, pid)).OfType<ProcStat>();

    private static string? SpaceOf(int pid) => ProcFileSystem.Host.ReadLink($"{pid}/ns/pid");
}
