// How one migration ends on the source: called off, failed, finished; and what is said of it.

using Phaul.Criu;
using Phaul.Journal;

namespace Phaul;

internal sealed partial class SourceRun
{
    /// <summary>Not committed: the destination is to discard what it has. Committed: its copy may be the only one.</summary>
    private async Task CallOffAsync(RemoteDestination remote, Exception exception)
    {
        if (_lastStep is { IsCommitted: true })
            return;
        _heldCopyIsGone = await _delivery.AbortAsync(remote, _lastStep is { RestoreWasRequested: true }, exception.Message).ConfigureAwait(false);
        // A lost link takes CRIU's pages away as well, and whoever of the two is told first is chance: the link is the cause
        if (exception is CriuException && !remote.IsConnected)
            await Task.Delay(LinkLossLimit, remote.Broken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Removes what is not to be kept and writes the result.</summary>
    public async Task<PhaulMigrationResult> FinishAsync(PhaulException? error = null, ProgramState? programState = null)
    {
        var keep = request.KeepImages || error is not null;
        if (!keep && workDirectory.TryRemove() is { } reason)
            await recorder.WarnAsync($"The images in {workDirectory.Path} could not be removed: {reason}").ConfigureAwait(false);
        var result = Result(error, programState);
        await recorder.WriteIfPossibleAsync(new Finished(result), durable: true).ConfigureAwait(false);
        return result;
    }

    /// <summary>Enters the state that is left, writes the result, and makes the error that the operator reads.</summary>
    public async Task<PhaulException> FailAsync(Exception exception, CancellationToken cancellationToken)
    {
        var step = recorder.State;
        var error = SourceFailure.Explain(exception, step, request, cancellationToken);
        // Where the journal could not take the first state, none can follow.
        if (recorder.States.Count > 0 && !recorder.IsFinal && recorder.State != MigrationState.InDoubt)
        {
            // After the commit nothing that went wrong here says that the tree lives.
            await recorder.EnterIfPossibleAsync(
                error.ErrorId == PhaulErrorId.ProgramLost ? MigrationState.Lost
                : _lastStep is { IsCommitted: true } ? MigrationState.InDoubt : MigrationState.RolledBack, error.Message, durable: true)
                .ConfigureAwait(false);
        }

        var programState = recorder.State switch
        {
            // Gone from here; whether it was restored elsewhere is known to the engine alone
            MigrationState.RolledBack when request.Local is not null && SourceFailure.StateOf(tree) == ProgramState.Gone => ProgramState.Unknown,
            MigrationState.RolledBack => SourceFailure.StateOf(tree),
            MigrationState.Completed => ProgramState.RunningOnDestination,
            MigrationState.Lost => ProgramState.Gone,
            MigrationState.InDoubt when error.ProgramState == ProgramState.RunningOnSource =>
                _lastStep is { TreeIsGone: true } && !LeavesMemoryBehind ? ProgramState.HeldOnDestination : ProgramState.Unknown,
            _ => error.ProgramState,
        };
        var result = await FinishAsync(error, programState).ConfigureAwait(false);
        return new PhaulException(recorder.State == MigrationState.InDoubt ? PhaulErrorId.InDoubt : error.ErrorId, error.Message, exception)
        {
            Host = error.Host ?? Environment.MachineName,
            Step = error.Step ?? step,
            ProgramState = programState,
            CriuLog = error.CriuLog,
            RecommendedAction = error.RecommendedAction
                ?? (_heldCopyIsGone ? null : "The destination may hold a frozen copy that will not run until it is told to discard it: Resolve-PhaulMigration / phaul resolve."),
            Result = result,
        };
    }

    private PhaulMigrationResult Result(PhaulException? error, ProgramState? programState = null)
    {
        var iterations = recorder.Iterations;
        return new PhaulMigrationResult
        {
            MigrationId = recorder.MigrationId,
            Side = MigrationSide.Source,
            Mode = preflight.Mode,
            State = recorder.State,
            ProgramState = programState ?? recorder.State switch
            {
                MigrationState.Completed => ProgramState.RunningOnDestination,
                MigrationState.InDoubt => error?.ProgramState ?? ProgramState.Unknown,
                _ => ProgramState.RunningOnSource,
            },
            SourceHost = Environment.MachineName,
            DestinationHost = _connection?.Peer.HostName ?? request.Destination.Host ?? request.Destination.ToString(),
            Pid = request.Pid,
            ProcessName = tree.Root.Command,
            DestinationPid = _lastStep?.DestinationPid,
            StartTime = recorder.StartTime,
            Duration = recorder.Elapsed,
            Downtime = _lastStep?.Downtime,
            MemoryCompleteAfter = _lastStep?.MemoryCompleteAfter,
            BytesSent = _connection?.BytesSent ?? 0,
            PageBytes = PageBytes,
            ImageBytes = _lastStep?.ImageBytes ?? 0,
            PagesWritten = iterations.Sum(iteration => iteration.PagesWritten),
            IterationCount = iterations.Count,
            States = recorder.States,
            ImagesDirectory = Directory.Exists(workDirectory.Path) ? workDirectory.Path : null,
            Warnings = recorder.Warnings,
            Error = error?.Message,
        };
    }
}
