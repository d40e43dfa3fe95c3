// The last step as an engine of the operator's own does it: Phaul looks on, and says what it sees of the tree.

using System.Diagnostics;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Journal;

namespace Phaul;

/// <summary>
/// Runs an <see cref="IPhaulLocal"/> in place of the <see cref="Handover"/>. That there are never two copies and never none is then
/// that engine's affair; Phaul sees to it that its word is not believed against the tree's.
/// </summary>
internal sealed class OwnEngine(IPhaulLocal engine, MigrationRecorder recorder) : ILastStep
{
    // CRIU answers when it has sent its SIGKILLs
    private static readonly TimeSpan LookLimit = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan DeathLimit = TimeSpan.FromSeconds(60);

    /// <inheritdoc/>
    public TimeSpan? Downtime { get; private set; }

    /// <inheritdoc/>
    public int? DestinationPid => null;

    /// <inheritdoc/>
    /// <remarks>Never: what the destination has are images, and it discards no tree when it lets go of them.</remarks>
    public bool IsCommitted => false;

    /// <inheritdoc/>
    public bool TreeIsGone { get; private set; }

    /// <inheritdoc/>
    public bool RestoreWasRequested => false;

    /// <inheritdoc/>
    public long ImageBytes => 0;

    /// <inheritdoc/>
    public async Task DumpCopyRestoreAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default)
    {
        await recorder.WriteAsync(new EngineOfOwn()).ConfigureAwait(false);
        await recorder.EnterAsync(MigrationState.Freezing).ConfigureAwait(false);
        using var tree = TreeWatch.Open(ProcessTree.Capture(config.Pid));
        // It does not say when it freezes
        var began = Stopwatch.StartNew();
        try
        {
            await engine.DumpCopyRestoreAsync(criu, config, lastClientImagesPath, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (tree.Alive.Count == 0)
        {
            TreeIsGone = true;
            throw new PhaulException(PhaulErrorId.EngineFailed, $"The engine failed after the program had ended here: {exception.Message}", exception)
            {
                ProgramState = ProgramState.Unknown,
                RecommendedAction = "Whether it was restored is for the engine to say. Its images are kept on both hosts.",
            };
        }
        catch (Exception exception) when (exception is not (OperationCanceledException or PhaulException or CriuException))
        {
            throw new PhaulException(PhaulErrorId.EngineFailed, $"The engine failed: {exception.Message}", exception);
        }

        Downtime = began.Elapsed;
        if (!await tree.WaitAllExitedAsync(LookLimit, CancellationToken.None).ConfigureAwait(false)
            && !(tree.IsAnyEnding && await tree.WaitAllExitedAsync(DeathLimit, CancellationToken.None).ConfigureAwait(false)))
        {
            throw new PhaulException(PhaulErrorId.EngineFailed, "The engine came back without an error, but the program still runs here")
            {
                RecommendedAction = "See whether the engine has restored a copy: then there are two. Its last step has to let CRIU kill the tree.",
            };
        }

        TreeIsGone = true;
        await recorder.EnterAsync(MigrationState.Transferring).ConfigureAwait(false);
        await recorder.EnterAsync(MigrationState.Committing).ConfigureAwait(false);
        await recorder.EnterIfPossibleAsync(MigrationState.Completed).ConfigureAwait(false);
    }
}
