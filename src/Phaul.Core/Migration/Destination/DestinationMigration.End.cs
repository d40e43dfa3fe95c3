// How one migration ends on the destination: settled, discarded, held; and what is said of it.

using Phaul.Journal;
using Phaul.Wire;

namespace Phaul;

internal sealed partial class DestinationMigration
{
    /// <summary>A verdict that did not come over the connection: from the source over another one, or from somebody on this host.</summary>
    /// <exception cref="PhaulException">It contradicts what has happened here, or could not be carried out.</exception>
    public async Task<DestinationMessage> SettleAsync(Settle.Types.Verdict verdict, string by)
    {
        // The old connection may look alive for a while yet; the verdict is newer than anything that could come over it.
        await _superseded.CancelAsync().ConfigureAwait(false);
        await _served.Task.ConfigureAwait(false);
        // A commit that failed has ended with its connection: what runs from now on ends anew, with its memory
        if (State == MigrationState.Committing)
            _finishing = null;
        DestinationMessage answer;
        try
        {
            answer = verdict == Settle.Types.Verdict.Committed
                ? new DestinationMessage { Running = await CommitAsync().ConfigureAwait(false) }
                : new DestinationMessage { Discarded = await DiscardAsync("the source rolled back").ConfigureAwait(false) };
        }
        catch (PhaulException exception) when (exception.ErrorId == PhaulErrorId.ProgramLost)
        {
            await (_finishing ??= FinishAsync(exception.Message)).ConfigureAwait(false);
            throw;
        }

        await _recorder.WriteIfPossibleAsync(
            new Resolution(verdict == Settle.Types.Verdict.Committed ? "the held tree was run" : "the held tree was discarded", by)).ConfigureAwait(false);
        // Whoever waits for the answer does not wait for the memory.
        _finishing ??= FinishAsync($"settled by {by}");
        return answer;
    }

    /// <summary>Ends when nothing of it is left to be done here: a program that runs has all its memory, and the result is written.</summary>
    public Task Finished => _finishing ?? _filling;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _calledOff.CancelAsync().ConfigureAwait(false);
        // A tree that runs may need what this has
        await Finished.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_held is not null)
            await _held.DisposeAsync().ConfigureAwait(false);
        _held = null;
        if (_reception is not null)
            await _reception.DisposeAsync().ConfigureAwait(false);
        await Task.WhenAll(_watches).ConfigureAwait(false);
        await EndCriuLogAsync().ConfigureAwait(false);
        // Not disposed: a second verdict may be waiting for it.
        await _recorder.DisposeAsync().ConfigureAwait(false);
        // Checks touch nothing, the history included
        if (_begin.CheckOnly)
            _stateDirectory.Forget(MigrationId, MigrationSide.Destination);
        _calledOff.Dispose();
        _superseded.Dispose();
    }

    private async Task<DestinationMessage> AbortAsync(Abort abort)
    {
        _isRestoredElsewhere = abort.IsRestoredElsewhere;
        return new DestinationMessage { Discarded = await DiscardAsync(abort.Reason).ConfigureAwait(false) };
    }

    private async Task<Discarded> DiscardAsync(string reason)
    {
        await _deciding.WaitAsync().ConfigureAwait(false);
        try
        {
            if (State is MigrationState.Committing or MigrationState.Running or MigrationState.Lost)
                throw new PhaulException(PhaulErrorId.ProtocolError, $"It cannot be discarded any more: this side is {State}") { Step = State };
            if (State != MigrationState.Discarded)
            {
                if (_held is not null && !await _held.DiscardAsync().ConfigureAwait(false))
                    await _recorder.WarnAsync("Processes of the discarded tree were killed but have not exited yet.").ConfigureAwait(false);
                await _recorder.EnterIfPossibleAsync(MigrationState.Discarded, reason).ConfigureAwait(false);
            }

            return new Discarded { ImagesDirectory = Directory.Exists(_workDirectory.Path) ? _workDirectory.Path : "" };
        }
        finally
        {
            _deciding.Release();
        }
    }

    /// <summary>The connection is over. What is not prepared goes; what is prepared and undecided is held.</summary>
    private async Task EndAsync(string? reason)
    {
        if (_reception is not null)
            await _reception.EndPagesAsync().ConfigureAwait(false);
        await _deciding.WaitAsync().ConfigureAwait(false);
        var holds = false;
        try
        {
            if (State == MigrationState.Prepared)
            {
                await _recorder.EnterIfPossibleAsync(
                    MigrationState.InDoubt, $"the source was lost before it gave its verdict: {reason}", durable: true).ConfigureAwait(false);
            }

            holds = State == MigrationState.InDoubt;
        }
        finally
        {
            _deciding.Release();
        }

        if (!holds)
        {
            if (!_recorder.IsFinal && State != MigrationState.Committing)
                await DiscardAsync(reason ?? "the source left").ConfigureAwait(false);
            await (_finishing ??= FinishAsync(reason)).ConfigureAwait(false);
        }
    }

    /// <summary>Waits for the last of the memory, removes what is not to be kept and writes the result.</summary>
    private async Task FinishAsync(string? reason)
    {
        await EndCriuLogAsync().ConfigureAwait(false);
        // The last of the memory comes out of the images.
        await _filling.ConfigureAwait(false);
        await _fill.RecordLeftAsync().ConfigureAwait(false);
        // What was refused has no images; what failed keeps them for a post-mortem.
        if (State == MigrationState.Running && !_begin.KeepImages && !_fill.KeepsImages && _workDirectory.TryRemove() is { } obstacle)
            await _recorder.WarnAsync($"The images in {_workDirectory.Path} could not be removed: {obstacle}").ConfigureAwait(false);
        await _recorder.WriteIfPossibleAsync(new Finished(Result(reason)), durable: true).ConfigureAwait(false);
    }

    private PhaulMigrationResult Result(string? error)
    {
        var root = _begin.Survey.Members[0];
        var iterations = _recorder.Iterations;
        return new PhaulMigrationResult
        {
            MigrationId = MigrationId,
            Side = MigrationSide.Destination,
            Mode = WireEnum.Parse<MigrationMode>(_begin.Mode),
            State = State,
            ProgramState = State switch
            {
                MigrationState.Lost => ProgramState.Gone,
                MigrationState.Running => ProgramState.RunningOnDestination,
                MigrationState.Discarded when !_isRestoredElsewhere => ProgramState.RunningOnSource,
                _ => ProgramState.Unknown,
            },
            SourceHost = _connection.Peer.HostName,
            DestinationHost = Environment.MachineName,
            Pid = root.Pid,
            ProcessName = root.Command,
            DestinationPid = State == MigrationState.Running ? _rootPid : null,
            StartTime = _recorder.StartTime,
            Duration = _recorder.Elapsed,
            Downtime = _sourceResult?.Downtime,
            MemoryCompleteAfter = _fill.CompleteAfter,
            BytesSent = _connection.BytesReceived,
            PageBytes = _reception?.PageBytes ?? 0,
            ImageBytes = _reception?.ImageBytes ?? 0,
            PagesWritten = iterations.Sum(iteration => iteration.PagesWritten),
            IterationCount = iterations.Count,
            States = _recorder.States,
            ImagesDirectory = Directory.Exists(_workDirectory.Path) ? _workDirectory.Path : null,
            Warnings = _recorder.Warnings,
            Error = State == MigrationState.Running ? null : error ?? _recorder.States[^1].Reason,
        };
    }

    private ValueTask EndCriuLogAsync() => _criuLog?.DisposeAsync() ?? ValueTask.CompletedTask;

    private Reception RequireReception() =>
        _reception ?? throw new PhaulException(PhaulErrorId.ProtocolError, "The source asked for images before an iteration");
}
