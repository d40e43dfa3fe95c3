// The one fact that decides how a migration ends: is the source tree alive?

using Phaul.Engines;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul;

/// <summary>What became of a source tree.</summary>
internal enum TreeFate
{
    /// <summary>Its root is there, and nobody has it in hand.</summary>
    Alive,

    /// <summary>Every process is gone, or was of an earlier boot.</summary>
    Gone,

    /// <summary>The root is gone, and others are not.</summary>
    InPart,

    /// <summary>CRIU still holds it: how that ends is open.</summary>
    HeldByCriu,
}

/// <summary>A look at a source tree after a crash.</summary>
/// <param name="Fate">What became of it.</param>
/// <param name="Words">The same, for people.</param>
internal sealed record SourceTree(TreeFate Fate, string Words)
{
    // CRIU lets go of a tree, or kills it, within moments of losing whoever drove it; large trees give back their memory first.
    private static readonly TimeSpan ReleaseLimit = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(50);

    /// <summary>Looks, and waits (bounded) while CRIU is still at it.</summary>
    /// <exception cref="NativeException">A process lives but cannot be watched.</exception>
    public static async Task<SourceTree> LookAsync(TreeIdentity identity, CancellationToken cancellationToken)
    {
        if (identity.BootId != ProcessIdentity.BootId().ToString())
            return new SourceTree(TreeFate.Gone, "the source tree is gone: this host was restarted");
        using var watch = TreeWatch.Open(identity.ToTree());
        var root = watch.Tree.RootPid;
        for (var end = DateTime.UtcNow + ReleaseLimit; ; await Task.Delay(LookEvery, cancellationToken).ConfigureAwait(false))
        {
            var alive = watch.Alive;
            if (alive.Count == 0)
                return new SourceTree(TreeFate.Gone, "every process of the source tree is gone");
            var tracer = alive.Select(member => ProcStatus.Read(ProcFileSystem.Host, $"{member.Pid}")?.TracerPid ?? 0).FirstOrDefault(pid => pid != 0);
            if (tracer == 0 && !watch.IsAnyEnding)
            {
                return alive.Any(member => member.Pid == root)
                    ? new SourceTree(TreeFate.Alive, $"the source tree is alive (pid {root})")
                    : new SourceTree(
                        TreeFate.InPart,
                        $"the root of the source tree (pid {root}) is gone, but " +
                        $"{string.Join(", ", alive.Take(5).Select(member => $"{member.Command} ({member.Pid})"))} " +
                        (alive.Count == 1 ? "is not" : "are not"));
            }

            if (DateTime.UtcNow > end)
            {
                return new SourceTree(
                    TreeFate.HeldByCriu,
                    tracer != 0 ? $"the source tree is still held by process {tracer} (criu)" : "the source tree was killed and has not exited yet");
            }
        }
    }

    /// <summary>Kills what is left of a tree that CRIU has begun to kill: a part of a tree is no program.</summary>
    /// <returns>Whether all of it is gone.</returns>
    public static async Task<bool> KillRestAsync(TreeIdentity identity)
    {
        using var watch = TreeWatch.Open(identity.ToTree());
        watch.Kill();
        return await watch.WaitAllExitedAsync(ReleaseLimit, CancellationToken.None).ConfigureAwait(false);
    }
}
