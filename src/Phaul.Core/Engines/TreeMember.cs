// One process of a tree, as it was when the tree was captured.

namespace Phaul.Engines;

/// <summary>One process of a <see cref="ProcessTree"/>.</summary>
/// <param name="Pid">Its pid on this host.</param>
/// <param name="StartTime">
/// When it began, in clock ticks since boot: with the pid and the boot id it names this process and no other.
/// </param>
/// <param name="ParentPid">Its parent.</param>
/// <param name="Command">The kernel's name for it, up to 15 bytes.</param>
/// <param name="SessionId">Its session; 0 where the leader is not of this pid namespace.</param>
/// <param name="ProcessGroupId">Its process group; 0 where the leader is not of this pid namespace.</param>
/// <param name="ThreadIds">Its threads, the main one (<paramref name="Pid"/>) included, in order.</param>
public sealed record TreeMember(
    int Pid, ulong StartTime, int ParentPid, string Command, int SessionId, int ProcessGroupId, IReadOnlyList<int> ThreadIds);
