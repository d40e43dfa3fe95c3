// Letting a restored tree run, so that nothing that fails meanwhile makes it run twice or never.

using Phaul.Criu;
using Phaul.Engines;
using Phaul.Journal;

namespace Phaul;

/// <summary>
/// The last step on the destination. It is journalled first: whoever finds that record later knows that the tree may have run,
/// and restores it again only if he finds it still held.
/// </summary>
internal static class TreeResumption
{
    /// <summary>Resumes a tree, which is restored again if it is lost before it runs.</summary>
    /// <param name="held">The tree.</param>
    /// <param name="restoreAgain">Ends what is left of a lost tree, restores it again from its images and journals that; is told why.</param>
    /// <param name="recorder">Where it is journalled.</param>
    /// <param name="durable">The record reaches the disk first.</param>
    /// <returns>The tree that runs.</returns>
    /// <exception cref="PhaulException">InDoubt: it cannot be told whether it runs.</exception>
    public static async Task<HeldTree> RunAsync(
        HeldTree held, Func<HeldTree, string, Task<HeldTree>> restoreAgain, MigrationRecorder recorder, bool durable)
    {
        if (held.IsAbandoned)
            held = await restoreAgain(held, "CRIU ended while it held the restored tree").ConfigureAwait(false);
        await recorder.WriteAsync(new Resuming(), durable).ConfigureAwait(false);
        try
        {
            await held.ResumeAsync().ConfigureAwait(false);
            return held;
        }
        catch (Exception exception)
        {
            if (await HasRunAsync(held, exception, recorder).ConfigureAwait(false))
                return held;
            await recorder.WriteAsync(new NeverRan(), durable).ConfigureAwait(false);
            held = await restoreAgain(held, $"CRIU ended while it resumed the restored tree ({exception.Message})").ConfigureAwait(false);
        }

        await recorder.WriteAsync(new Resuming(), durable).ConfigureAwait(false);
        await held.ResumeAsync().ConfigureAwait(false);
        return held;
    }

    /// <summary>CRIU failed at the resume: the tree itself tells whether it has run.</summary>
    /// <exception cref="PhaulException">InDoubt: it does not tell.</exception>
    private static async Task<bool> HasRunAsync(HeldTree held, Exception exception, MigrationRecorder recorder)
    {
        switch (held.Look())
        {
            case TreeHold.Running:
                await recorder.WarnAsync($"CRIU failed after it had resumed the tree: {exception.Message}").ConfigureAwait(false);
                return true;
            case TreeHold.Unknown:
                throw CannotTell(held.Tree.RootPid, exception);
            case null when held.DiedHeld:
                return false;
            // Had CRIU undone the restore, or not been told yet, the tree would not have run. It may have, and has ended.
            case null when exception is CriuException { IsPastReturn: true, Kind: not CriuFailure.Refused }:
                await recorder.WarnAsync($"The tree was resumed and has ended since; CRIU failed meanwhile: {exception.Message}").ConfigureAwait(false);
                return true;
            default:
                return false;
        }
    }

    /// <summary>The error for a tree that cannot be looked at.</summary>
    public static PhaulException CannotTell(int rootPid, Exception? cause) => new(
        PhaulErrorId.InDoubt,
        $"Whether the restored tree (pid {rootPid}) runs or is still held cannot be told: /proc/{rootPid}/syscall cannot be read. It was neither " +
        "killed nor restored again", cause)
    {
        Step = MigrationState.Committing,
        ProgramState = ProgramState.Unknown,
        RecommendedAction =
            "Resolve it as a user who may read that file (root, CAP_SYS_PTRACE). Do not restore from its images as long as the process exists.",
    };
}
