// One migration from the destination's side: checks, receives, restores, holds; runs it or discards it when told.

using System.Diagnostics;
using System.Text.Json;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Preflight;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>
/// Serves what a source asks for, one request after the other; only Abort may come while a request is being served.
/// It outlives its connection while it holds a prepared tree: then it waits for a verdict (<see cref="SettleAsync"/>).
/// </summary>
internal sealed class DestinationMigration : IAsyncDisposable
{
    // Whether the tree is prepared or the source given up is decided once: a source that has been told Prepared may let its own die.
    private const int Undecided = 0;
    private const int PreparedFirst = 1;
    private const int EndedFirst = 2;

    private readonly DestinationServerOptions _server;
    private readonly StateDirectory _stateDirectory;
    private readonly PhaulConnection _connection;
    private readonly MigrationRecorder _recorder;
    private readonly WorkDirectory _workDirectory;
    private readonly Begin _begin;
    private readonly ProcessOptions _options;
    // Made before the program is frozen: the first use of JSON's reflection takes a while.
    private readonly JsonElement _journaledOptions;
    private readonly SemaphoreSlim _deciding = new(1, 1);
    private readonly CancellationTokenSource _calledOff = new();
    private readonly MemoryFill _fill;
    private Reception? _reception;
    private CriuLogFollower? _criuLog;
    private readonly List<Task> _watches = [];
    private HeldTree? _held;
    private PhaulMigrationResult? _sourceResult;
    private readonly CancellationTokenSource _superseded = new();
    private readonly TaskCompletionSource _served = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private volatile bool _answering;
    private Task _filling = Task.CompletedTask;
    private Task? _finishing;
    private int _fate;
    private int _rootPid;

    private DestinationMigration(
        DestinationServerOptions server, StateDirectory stateDirectory, PhaulConnection connection, MigrationRecorder recorder,
        WorkDirectory workDirectory, Begin begin)
    {
        (_server, _stateDirectory, _connection) = (server, stateDirectory, connection);
        (_recorder, _workDirectory, _begin) = (recorder, workDirectory, begin);
        _options = ProcessOptionsOnWire.FromMessage(begin.Options ?? new RestoreOptions());
        _fill = new MemoryFill(recorder, workDirectory.Path, ReplaceLackingAsync);
        _journaledOptions = JsonSerializer.SerializeToElement(Google.Protobuf.JsonFormatter.Default.Format(ProcessOptionsOnWire.ToMessage(_options)));
    }

    public string MigrationId => _recorder.MigrationId;

    public MigrationState State => _recorder.State;

    /// <summary>The fingerprint of the source's certificate; null without TLS.</summary>
    public string? PeerFingerprint => _connection.Peer.Fingerprint;

    /// <summary>Whether it holds a prepared tree that only a verdict can end, or a verdict is being carried out.</summary>
    public bool AwaitsVerdict => _superseded.IsCancellationRequested || _recorder.State is MigrationState.InDoubt;

    public ActiveMigration Snapshot => new(
        MigrationId, $"{_connection.Peer.HostName} ({_connection.Peer.Address})", State, _recorder.StartTime, _connection.BytesReceived);

    /// <summary>Opens the journal of a migration that a source has announced.</summary>
    /// <exception cref="PhaulException">The announcement cannot be right, or the journal cannot be written.</exception>
    public static async Task<DestinationMigration> AcceptAsync(
        DestinationServerOptions server, StateDirectory stateDirectory, PhaulConnection connection, Begin begin,
        IProgress<MigrationEvent>? observer, CancellationToken cancellationToken)
    {
        var id = Journal.MigrationId.Check(begin.MigrationId);
        var mode = WireEnum.Parse<MigrationMode>(begin.Mode);
        var root = begin.Survey?.Members.FirstOrDefault()
            ?? throw new PhaulException(PhaulErrorId.ProtocolError, "The source announced a migration of no process");
        var workDirectory = WorkDirectory.For(server.WorkDirectory ?? stateDirectory.ImagesPath, id, MigrationSide.Destination);
        var journal = await MigrationJournal.CreateAsync(stateDirectory, id, MigrationSide.Destination, cancellationToken).ConfigureAwait(false);
        var recorder = new MigrationRecorder(MigrationSide.Destination, id, journal, observer);
        try
        {
            await recorder.WriteAsync(new Begun(
                id, MigrationSide.Destination, Environment.MachineName, mode, root.Pid, root.Command, connection.Peer.HostName, workDirectory.Path)
            {
                PhaulVersion = PhaulVersion.Current,
                KeepImages = begin.KeepImages,
            }).ConfigureAwait(false);
            await recorder.WriteAsync(
                new PeerMet(connection.Peer.HostName, connection.Peer.Address, connection.Peer.Fingerprint)).ConfigureAwait(false);
            await recorder.EnterAsync(MigrationState.Accepted).ConfigureAwait(false);
            return new DestinationMigration(server, stateDirectory, connection, recorder, workDirectory, begin);
        }
        catch
        {
            await recorder.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Serves the source until the migration is over or the connection is. Comes back, whatever happened.</summary>
    /// <param name="beginRequest">The number of the announcement, which is answered first.</param>
    /// <param name="stopping">The server stops: what is not prepared is discarded; what is prepared waits for its verdict as long as the source is there.</param>
    public async Task ServeAsync(ulong beginRequest, CancellationToken stopping)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(_superseded.Token);
        // A prepared tree is finished, not dropped: its source may have let go of its own already.
        await using var stop = stopping.Register(() =>
        {
            if (TryDecide(EndedFirst))
                ending.Cancel();
        }).ConfigureAwait(false);
        var serving = Task.CompletedTask;
        string? end = null;
        try
        {
            serving = ServeRequestAsync(beginRequest, new SourceMessage { Begin = _begin });
            while (!_recorder.IsFinal || !serving.IsCompleted)
            {
                var message = await _connection.ReceiveControlAsync(SourceMessage.Parser, ending.Token).ConfigureAwait(false);
                switch (message.BodyCase)
                {
                    case SourceMessage.BodyOneofCase.RecordIteration:
                        await _recorder.RecordIterationAsync(RecordJson.ReadIteration(message.RecordIteration.Json, MigrationId)).ConfigureAwait(false);
                        break;
                    case SourceMessage.BodyOneofCase.RecordResult:
                        _sourceResult = RecordJson.ReadResult(message.RecordResult.Json, MigrationId);
                        return;
                    case SourceMessage.BodyOneofCase.Abort:
                        await _calledOff.CancelAsync().ConfigureAwait(false);
                        await serving.ConfigureAwait(false);
                        serving = ServeRequestAsync(message.Request, message);
                        break;
                    default:
                        // The answer may be there before this side knows that it has been sent
                        if (!serving.IsCompleted && !_answering)
                            throw new PhaulException(PhaulErrorId.ProtocolError, $"The source sent {message.BodyCase} before the last request was answered");
                        await serving.ConfigureAwait(false);
                        serving = ServeRequestAsync(message.Request, message);
                        break;
                }
            }

            // The source's own result follows a commit; it is waited for as long as the connection lives, and no longer.
            if (_recorder.State == MigrationState.Running)
            {
                var message = await _connection.ReceiveControlAsync(SourceMessage.Parser, ending.Token).ConfigureAwait(false);
                if (message.BodyCase == SourceMessage.BodyOneofCase.RecordResult)
                    _sourceResult = RecordJson.ReadResult(message.RecordResult.Json, MigrationId);
            }
        }
        catch (OperationCanceledException) when (ending.IsCancellationRequested)
        {
            end = !_superseded.IsCancellationRequested ? "the server was stopped" : "the source came back over another connection";
        }
        catch (PhaulException exception)
        {
            end = exception.Message;
        }
        finally
        {
            try
            {
                TryDecide(EndedFirst);
                if (State is not (MigrationState.Committing or MigrationState.Running))
                    await _calledOff.CancelAsync().ConfigureAwait(false);
                await serving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await EndAsync(end).ConfigureAwait(false);
            }
            finally
            {
                // A verdict waits for this, however it ended.
                _served.TrySetResult();
            }
        }
    }

    /// <summary>A verdict that did not come over the connection: from the source over another one, or from somebody on this host.</summary>
    /// <exception cref="PhaulException">It contradicts what has happened here, or could not be carried out.</exception>
    public async Task<DestinationMessage> SettleAsync(Settle.Types.Verdict verdict, string by)
    {
        // The old connection may look alive for a while yet; the verdict is newer than anything that could come over it.
        await _superseded.CancelAsync().ConfigureAwait(false);
        await _served.Task.ConfigureAwait(false);
        var answer = verdict == Settle.Types.Verdict.Committed
            ? new DestinationMessage { Running = await CommitAsync().ConfigureAwait(false) }
            : new DestinationMessage { Discarded = await DiscardAsync("the source rolled back").ConfigureAwait(false) };
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

    private async Task ServeRequestAsync(ulong request, SourceMessage message)
    {
        _answering = false;
        DestinationMessage answer;
        try
        {
            answer = message.BodyCase switch
            {
                SourceMessage.BodyOneofCase.Begin => await BeginAsync().ConfigureAwait(false),
                SourceMessage.BodyOneofCase.StartIteration => await StartIterationAsync(message.StartIteration).ConfigureAwait(false),
                SourceMessage.BodyOneofCase.StopIteration => await StopIterationAsync().ConfigureAwait(false),
                SourceMessage.BodyOneofCase.ReceiveImages => await ReceiveImagesAsync().ConfigureAwait(false),
                SourceMessage.BodyOneofCase.Restore => await RestoreAsync().ConfigureAwait(false),
                SourceMessage.BodyOneofCase.Commit => new DestinationMessage { Running = await CommitAsync().ConfigureAwait(false) },
                SourceMessage.BodyOneofCase.Abort => new DestinationMessage { Discarded = await DiscardAsync(message.Abort.Reason).ConfigureAwait(false) },
                _ => throw new PhaulException(PhaulErrorId.ProtocolError, $"{message.BodyCase} is no request of a migration under way"),
            };
        }
        catch (OperationCanceledException exception)
        {
            answer = new DestinationMessage
            {
                Failure = FailureOnWire.ToMessage(
                new PhaulException(PhaulErrorId.Cancelled, "The migration was called off", exception), Environment.MachineName, State)
            };
        }
        catch (Exception exception)
        {
            answer = new DestinationMessage { Failure = FailureOnWire.ToMessage(exception, Environment.MachineName, State) };
            _recorder.Story($"{message.BodyCase} failed: {exception.Message}");
        }

        answer.Request = request;
        _answering = true;
        try
        {
            await _connection.SendControlAsync(answer, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
        {
            _recorder.Story($"The answer to {message.BodyCase} could not be sent: {exception.Message}");
        }
    }

    private async Task<DestinationMessage> BeginAsync()
    {
        var checks = await DestinationChecks.RunAsync(
            _begin.Survey, _server, _options, Path.GetDirectoryName(_workDirectory.Path)!, WireEnum.Parse<MigrationMode>(_begin.Mode),
            _calledOff.Token).ConfigureAwait(false);
        var answer = new Checked();
        answer.Checks.AddRange(checks.Select(check => new Check
        {
            Name = check.Name,
            Verdict = check.Verdict.ToString(),
            Message = check.Message,
            Remedy = check.Remedy ?? "",
        }));
        if (_begin.CheckOnly)
            await _recorder.EnterAsync(MigrationState.Discarded, "only checks were asked for").ConfigureAwait(false);
        else if (checks.Any(check => check.Verdict == CheckVerdict.Failed))
            await _recorder.EnterAsync(MigrationState.Discarded, "a check failed").ConfigureAwait(false);
        return new DestinationMessage { Checked = answer };
    }

    private async Task<DestinationMessage> StartIterationAsync(StartIteration start)
    {
        if (_reception is null)
            await BeginReceivingAsync().ConfigureAwait(false);
        await _reception!.StartIterationAsync((long)Math.Min(start.ExpectedBytes, long.MaxValue), _calledOff.Token).ConfigureAwait(false);
        _watches.Add(WatchPagesAsync(_reception.PagesReceived));
        return new DestinationMessage { Done = new Done() };
    }

    private async Task BeginReceivingAsync()
    {
        _workDirectory.Create();
        await _recorder.WriteAsync(new ImagesPlace(_workDirectory.Path)).ConfigureAwait(false);
        await _recorder.EnterAsync(MigrationState.Receiving).ConfigureAwait(false);
        _criuLog = CriuLogFollower.For(_recorder, _workDirectory.Path, _server.FollowCriuLog);
        _reception = await Reception.OpenAsync(_connection, _server, _begin, _options, _workDirectory.Path, _calledOff.Token).ConfigureAwait(false);
    }

    /// <summary>Pages that cannot be written are told to the source at once: its dump would otherwise wait.</summary>
    private async Task WatchPagesAsync(Task pages)
    {
        try
        {
            await pages.ConfigureAwait(false);
        }
        catch (PhaulException exception)
            when (exception.ErrorId is PhaulErrorId.PageTransferFailed or PhaulErrorId.RestoreFailed
                && !_calledOff.IsCancellationRequested && !_connection.Closed.IsCancellationRequested)
        {
            try
            {
                await _connection.SendControlAsync(
                    new DestinationMessage { Failure = FailureOnWire.ToMessage(exception, Environment.MachineName, State) },
                    CancellationToken.None).ConfigureAwait(false);
            }
            catch (PhaulException)
            {
                // The connection has ended meanwhile, which tells the source as well.
            }
        }
        catch (Exception)
        {
            // The connection or the migration ended: everybody who uses it learns so by itself.
        }
    }

    private async Task<DestinationMessage> StopIterationAsync()
    {
        await RequireReception().StopIterationAsync(_calledOff.Token).ConfigureAwait(false);
        return new DestinationMessage { Done = new Done() };
    }

    private async Task<DestinationMessage> ReceiveImagesAsync()
    {
        var totals = await RequireReception().ReceiveImagesAsync(_calledOff.Token).ConfigureAwait(false);
        return new DestinationMessage { ImagesReceived = new ImagesReceived { Count = (uint)totals.Count, Bytes = (ulong)totals.Bytes } };
    }

    private async Task<DestinationMessage> RestoreAsync()
    {
        var reception = RequireReception();
        await _recorder.EnterAsync(MigrationState.Restoring).ConfigureAwait(false);
        // The source asks for it only between iterations; this one ends with the restore.
        await reception.StopIterationAsync(_calledOff.Token).ConfigureAwait(false);
        try
        {
            _held = await reception.RestoreAsync(_recorder.Story, _calledOff.Token).ConfigureAwait(false);
        }
        catch (CriuException exception) when (exception.Kind is CriuFailure.Died or CriuFailure.Hung)
        {
            var left = await AbandonedTasks.KillAsync([.. _begin.Survey.Members.Select(member => member.Pid)], _server.CriuPath).ConfigureAwait(false);
            _recorder.Story($"CRIU was lost in the middle of the restore; {left.Count} processes that it had left were killed");
            throw;
        }

        if (!TryDecide(PreparedFirst))
            throw new OperationCanceledException("The source or the server ended first.");

        await _recorder.WriteAsync(PreparedRecord(_held, reception.LastImagesDirectory)).ConfigureAwait(false);
        if (_held.NeedsThisProcess)
            await _recorder.WriteAsync(new MemoryServed()).ConfigureAwait(false);
        await _recorder.EnterAsync(MigrationState.Prepared, durable: _begin.Durable).ConfigureAwait(false);
        _watches.Add(WatchHeldAsync(_held));
        return new DestinationMessage { Prepared = new Wire.Prepared { RootPid = _held.Tree.RootPid } };
    }

    private bool TryDecide(int fate) => Interlocked.CompareExchange(ref _fate, fate, Undecided) == Undecided;

    /// <summary>A tree whose CRIU dies is lost, and is restored again if it is needed. A source that has not let go of its own need not.</summary>
    private async Task WatchHeldAsync(HeldTree held)
    {
        await held.Ended.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!held.IsAbandoned || State is not (MigrationState.Prepared or MigrationState.InDoubt))
            return;
        await _recorder.WarnAsync("CRIU ended while it held the restored tree. If the source is gone, it is restored again from its images.")
            .ConfigureAwait(false);
        await WatchPagesAsync(Task.FromException(
            new PhaulException(PhaulErrorId.RestoreFailed, "CRIU ended while it held the restored tree"))).ConfigureAwait(false);
    }

    private Journal.Prepared PreparedRecord(HeldTree held, string imagesDirectory) => new(
        held.Tree.RootPid, held.Tree.BootId,
        held.Tree.Members.Select(member => new JournaledProcess(member.Pid, (long)member.StartTime, member.Command)).ToArray(),
        imagesDirectory, _journaledOptions);

    private async Task<Running> CommitAsync()
    {
        await _deciding.WaitAsync().ConfigureAwait(false);
        try
        {
            if (State == MigrationState.Running)
                return new Running { RootPid = _rootPid };
            // Committing: a commit that was begun and could not be finished, as on a full disk, is asked for again
            if (State is not (MigrationState.Prepared or MigrationState.InDoubt or MigrationState.Committing) || _held is null)
                throw new PhaulException(PhaulErrorId.InDoubt, $"Nothing is prepared here: this side is {State}") { Step = State };
            if (State != MigrationState.Committing)
                await _recorder.EnterIfPossibleAsync(MigrationState.Committing, durable: _begin.Durable).ConfigureAwait(false);
            try
            {
                _held = await TreeResumption.RunAsync(_held, RestoreAgainAsync, _recorder, _begin.Durable).ConfigureAwait(false);
            }
            catch (PhaulException exception) when (exception.ErrorId == PhaulErrorId.InDoubt)
            {
                await _recorder.EnterIfPossibleAsync(MigrationState.InDoubt, exception.Message, durable: true).ConfigureAwait(false);
                throw;
            }

            await _recorder.EnterIfPossibleAsync(MigrationState.Running).ConfigureAwait(false);
            _rootPid = _held.Tree.RootPid;
            if (_held.IsLazy)
                _filling = _fill.RunAsync(_held);
            else
                await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            return new Running { RootPid = _rootPid };
        }
        finally
        {
            _deciding.Release();
        }
    }

    /// <summary>It runs without all its memory, and will not get the rest.</summary>
    private async Task ReplaceLackingAsync(string why)
    {
        await _deciding.WaitAsync().ConfigureAwait(false);
        try
        {
            var again = await RestoreAgainAsync(_held!, why).ConfigureAwait(false);
            _held = await TreeResumption.RunAsync(again, RestoreAgainAsync, _recorder, _begin.Durable).ConfigureAwait(false);
        }
        finally
        {
            _deciding.Release();
        }
    }

    /// <summary>The source tree is gone, and so is the restored one: the images are the program now.</summary>
    private async Task<HeldTree> RestoreAgainAsync(HeldTree lost, string why)
    {
        await _recorder.WarnAsync($"{why}. It is restored again from its images.").ConfigureAwait(false);
        await lost.DiscardAsync().ConfigureAwait(false);
        await lost.DisposeAsync().ConfigureAwait(false);
        var reception = RequireReception();
        _held = await reception.RestoreEagerlyAsync(CancellationToken.None).ConfigureAwait(false);
        await _recorder.WriteAsync(PreparedRecord(_held, reception.LastImagesDirectory), _begin.Durable).ConfigureAwait(false);
        return _held;
    }

    private async Task<Discarded> DiscardAsync(string reason)
    {
        await _deciding.WaitAsync().ConfigureAwait(false);
        try
        {
            if (State is MigrationState.Committing or MigrationState.Running)
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
                MigrationState.Running => ProgramState.RunningOnDestination,
                MigrationState.Discarded => ProgramState.RunningOnSource,
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
