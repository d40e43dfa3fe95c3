// What this process may do, and what the tree makes necessary.

using Phaul.Procfs;

namespace Phaul.Preflight;

internal static class CapabilityCheck
{
    private const int NetAdmin = 12;
    private const int SysPtrace = 19;
    private const int SysAdmin = 21;
    private const int SysResource = 24;
    private const int CheckpointRestore = 40;

    /// <summary>Looks at the capabilities that criu inherits from this process.</summary>
    /// <param name="own">This process's status.</param>
    /// <param name="tree">The tree.</param>
    /// <param name="options">What CRIU will be told.</param>
    public static IEnumerable<Finding> Run(ProcStatus own, TreeInspection tree, ProcessOptions options)
    {
        const string remedy = "Run Phaul as root, in no container or in one with this capability.";
        if (!Has(SysAdmin) && !Has(CheckpointRestore))
            yield return new Finding(CheckVerdict.Failed, "Phaul has neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE here.", remedy);

        var others = tree.Processes.Where(process => !IsSameUser(process.Status, own)).ToList();
        if (others.Count > 0 && !Has(SysPtrace))
        {
            yield return new Finding(
                CheckVerdict.Failed, $"Phaul lacks CAP_SYS_PTRACE, and {others[0].Name} runs as another user (uid {Uid(others[0])}).",
                remedy);
        }

        if (others.Count > 0 && !Has(SysResource))
        {
            // criu reads every task's limits by prlimit(2), which for another user's task takes this capability.
            yield return new Finding(
                CheckVerdict.Failed,
                $"Phaul lacks CAP_SYS_RESOURCE, without which CRIU cannot read the limits of another user's task: "
                + $"{others[0].Name} runs as uid {Uid(others[0])}.",
                "Run Phaul with CAP_SYS_RESOURCE, or the program as the user that Phaul runs as.");
        }

        if (!Has(NetAdmin) && options.TcpEstablished && NeededOptions.TcpEstablished(tree).FirstOrDefault() is { } connection)
            yield return new Finding(CheckVerdict.Failed, $"Phaul lacks CAP_NET_ADMIN, which moving TCP connections takes. {connection}",
                remedy);

        bool Has(int capability) => (own.EffectiveCapabilities >> capability & 1) != 0;
    }

    private static string Uid(ProcessInspection process) => string.Join('/', process.Status.Uids.Take(3).Distinct());

    private static bool IsSameUser(ProcStatus task, ProcStatus own) =>
        own.Uids.Count > 0 && own.Gids.Count > 0
        && task.Uids.Take(3).All(uid => uid == own.Uids[0]) && task.Gids.Take(3).All(gid => gid == own.Gids[0]);
}
