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
internal sealed partial class DestinationMigration : IAsyncDisposable
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
    private Task _serving = Task.CompletedTask;
    private Task _filling = Task.CompletedTask;
    private Task? _finishing;
    private int _fate;
    private int _rootPid;
    private bool _isRestoredElsewhere;

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
    public static async Task<DestinationMigration> OpenAsync(
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
        string? end = null;
        try
        {
            await ReadMessagesAsync(beginRequest, ending.Token).ConfigureAwait(false);
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
                await _serving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await EndAsync(end).ConfigureAwait(false);
            }
            finally
            {
                // A verdict waits for this, however it ended.
                _served.TrySetResult();
            }
        }
    }

    /// <summary>
    /// From the announcement to the end of the migration. After a commit the source's own result follows; it is waited for as long
    /// as the connection lives, and no longer.
    /// </summary>
    private async Task ReadMessagesAsync(ulong beginRequest, CancellationToken ending)
    {
        _serving = ServeRequestAsync(beginRequest, new SourceMessage { Begin = _begin });
        while (!_recorder.IsFinal || !_serving.IsCompleted || (_sourceResult is null && HasLeftSource))
        {
            var message = await _connection.ReceiveControlAsync(SourceMessage.Parser, ending).ConfigureAwait(false);
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
                    await ServeInTurnAsync(message).ConfigureAwait(false);
                    break;
                // The answer may be there before this side knows that it has been sent
                case var tooEarly when !_serving.IsCompleted && !_answering:
                    throw new PhaulException(PhaulErrorId.ProtocolError, $"The source sent {tooEarly} before the last request was answered");
                default:
                    await ServeInTurnAsync(message).ConfigureAwait(false);
                    break;
            }
        }
    }

    /// <summary>Whether the source has let go of the program: its result follows.</summary>
    private bool HasLeftSource => State == MigrationState.Running || _isRestoredElsewhere;

    /// <summary>Comes back when the request before it was answered; reading goes on while this one is served.</summary>
    private async Task ServeInTurnAsync(SourceMessage message)
    {
        await _serving.ConfigureAwait(false);
        _serving = ServeRequestAsync(message.Request, message);
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
                SourceMessage.BodyOneofCase.AwaitMemory => await AwaitMemoryAsync().ConfigureAwait(false),
                SourceMessage.BodyOneofCase.Abort => await AbortAsync(message.Abort).ConfigureAwait(false),
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
        var answer = new Checked { ImagesDirectory = _workDirectory.Path };
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
        if (start.MemoryFollows)
        {
            _reception!.StartLateIteration();
            return new DestinationMessage { Done = new Done() };
        }

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

    private async Task<DestinationMessage> StopIterationAsync()
    {
        var reception = RequireReception();
        await reception.StopIterationAsync(_calledOff.Token).ConfigureAwait(false);
        return new DestinationMessage { Done = new Done { Owners = { reception.Owners } } };
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
        catch (PhaulException) when (reception.MemoryFault is { } fault)
        {
            throw fault;
        }

        if (reception.MemoryFault is { } late)
            throw late;
        if (!TryDecide(PreparedFirst))
            throw new OperationCanceledException("The source or the server ended first.");

        await _recorder.WriteAsync(PreparedRecord(_held, reception.LastImagesDirectory)).ConfigureAwait(false);
        if (_held.NeedsThisProcess)
            await _recorder.WriteAsync(new MemoryServed(reception.MemoryFollows)).ConfigureAwait(false);
        await _recorder.EnterAsync(MigrationState.Prepared, durable: _begin.Durable).ConfigureAwait(false);
        _watches.Add(WatchHeldAsync(_held));
        return new DestinationMessage { Prepared = new Wire.Prepared { RootPid = _held.Tree.RootPid } };
    }

    private bool TryDecide(int fate) => Interlocked.CompareExchange(ref _fate, fate, Undecided) == Undecided;

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
            if (State == MigrationState.Lost)
                throw Lost();
            if (State == MigrationState.Committing && _held is null)
            {
                // Asked again, the source is answered out of the journal: by then this is gone
                throw new PhaulException(
                    PhaulErrorId.ServerBusy, "The restored tree was lost, and could not be restored again at once. It will be, when it is asked for again")
                {
                    Step = State,
                };
            }

            // Committing: a commit that was begun and could not be finished, as on a full disk, is asked for again
            if (State is not (MigrationState.Prepared or MigrationState.InDoubt or MigrationState.Committing) || _held is null)
                throw new PhaulException(PhaulErrorId.InDoubt, $"Nothing is prepared here: this side is {State}") { Step = State };
            if (State != MigrationState.Committing)
                await _recorder.EnterIfPossibleAsync(MigrationState.Committing, durable: _begin.Durable).ConfigureAwait(false);
            if (_reception?.MemoryFault is { } fault)
            {
                await LoseAsync(_held, fault).ConfigureAwait(false);
                throw Lost();
            }

            try
            {
                _held = await ResumeAsync(_held).ConfigureAwait(false);
            }
            catch (Exception) when (_reception?.MemoryFault is not null)
            {
                await LoseAsync(_held, _reception.MemoryFault).ConfigureAwait(false);
                throw Lost();
            }

            await _recorder.EnterIfPossibleAsync(MigrationState.Running).ConfigureAwait(false);
            _rootPid = _held.Tree.RootPid;
            if (_held.IsLazy)
                _filling = FillAsync(_held);
            else
                await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            return new Running { RootPid = _rootPid };
        }
        finally
        {
            _deciding.Release();
        }
    }

    private async Task FillAsync(HeldTree held)
    {
        var follows = _reception is { MemoryFollows: true };
        await _fill.RunAsync(held, follows ? LoseAsync : null).ConfigureAwait(false);
        if (follows && State == MigrationState.Running)
            await TellMemoryIsCompleteAsync().ConfigureAwait(false);
    }

    /// <summary>The source waits for that: until then it keeps the memory.</summary>
    private async Task<DestinationMessage> AwaitMemoryAsync()
    {
        await _filling.ConfigureAwait(false);
        return State == MigrationState.Lost ? throw Lost() : new DestinationMessage { Done = new Done() };
    }

    private async Task<HeldTree> ResumeAsync(HeldTree held)
    {
        try
        {
            return await TreeResumption.RunAsync(held, RestoreAgainAsync, _recorder, _begin.Durable).ConfigureAwait(false);
        }
        catch (PhaulException exception) when (exception.ErrorId == PhaulErrorId.InDoubt)
        {
            await _recorder.EnterIfPossibleAsync(MigrationState.InDoubt, exception.Message, durable: true).ConfigureAwait(false);
            throw;
        }
    }
}
