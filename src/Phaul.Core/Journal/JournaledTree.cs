// A process tree as journals keep it, and back.

using Phaul.Engines;

namespace Phaul.Journal;

/// <summary>Translates.</summary>
internal static class JournaledTree
{
    public static TreeIdentity ToRecord(this ProcessTree tree) => new(
        tree.BootId, [.. tree.Members.Select(member => new JournaledProcess(member.Pid, (long)member.StartTime, member.Command))]);

    /// <summary>What a journal does not keep (parents, sessions, threads) is 0 or empty.</summary>
    public static ProcessTree ToTree(this TreeIdentity identity) => new(
        [.. identity.Processes.Select(process => new TreeMember(process.Pid, (ulong)process.StartTimeTicks, 0, process.Command ?? "", 0, 0, []))],
        identity.BootId);
}
