// One migration from the source's side, top to bottom: connect, check, copy, hand over; and what happens when it fails.

using System.Diagnostics;
using System.Net.Sockets;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Images;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>
/// Moves one process tree to a destination that runs a <see cref="DestinationServer"/>. Made for one run: a second migration
/// takes a second object.
/// </summary>
/// <example>
/// <code>
/// var request = new MigrationRequest { Pid = 4711, Destination = new MigrationEndpoint { Host = "b", Certificate = mine, TrustedFingerprints = [theirs] } };
/// var result = await new SourceMigration(request).RunAsync(cancellationToken);
/// Console.WriteLine($"down for {result.Downtime?.TotalMilliseconds} ms, now pid {result.DestinationPid} on {result.DestinationHost}");
/// </code>
/// </example>
public sealed class SourceMigration
{
    private readonly IProgress<MigrationEvent>? _observer;
    private readonly StateDirectory _stateDirectory;
    private int _started;

    /// <summary>Makes a migration; nothing is touched yet.</summary>
    /// <param name="request">What to do.</param>
    /// <param name="observer">
    /// Told of everything that happens, in order, on no particular thread; it must return quickly and must not call back.
    /// </param>
    public SourceMigration(MigrationRequest request, IProgress<MigrationEvent>? observer = null)
    {
        ArgumentNullException.ThrowIfNull(request);
        Request = request;
        _observer = observer;
        _stateDirectory = new StateDirectory(request.StateDirectory);
        MigrationId = Journal.MigrationId.New();
    }

    /// <summary>What was asked for.</summary>
    public MigrationRequest Request { get; }

    /// <summary>The id, known from the beginning.</summary>
    public string MigrationId { get; }

    /// <summary>Only the checks, on both hosts; touches nothing. One result a check, failed ones included.</summary>
    /// <exception cref="PhaulException">The checks themselves could not be made (no connection, no such process).</exception>
    public async Task<IReadOnlyList<CheckResult>> CheckAsync(CancellationToken cancellationToken = default)
    {
        RequestRules.Check(Request);
        var tree = CaptureTree();
        await using var remote = new RemoteDestination(await ConnectAsync(cancellationToken).ConfigureAwait(false));
        return await Preflight(tree).RunAsync(remote, checkOnly: true, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Migrates. Cancelling before the commit rolls back; afterwards it has no effect.</summary>
    /// <exception cref="PhaulException">
    /// It did not complete; <see cref="PhaulException.ProgramState"/> says where the program is, and
    /// <see cref="PhaulException.Result"/> what had been done.
    /// </exception>
    public async Task<PhaulMigrationResult> RunAsync(CancellationToken cancellationToken = default)
    {
        if (Interlocked.Exchange(ref _started, 1) != 0)
            throw new InvalidOperationException("A migration can be run once.");
        _ = JitWarmUp.Completion;
        RequestRules.Check(Request);
        var tree = CaptureTree();
        var workDirectory = WorkDirectory.For(Request.WorkDirectory ?? _stateDirectory.ImagesPath, MigrationId, MigrationSide.Source);
        var notices = new List<string>();
        await FailedImages.TrimAsync(
            _stateDirectory, Request.WorkDirectory ?? _stateDirectory.ImagesPath, MigrationSide.Source,
            Request.MaxFailedImages, Request.FailedImagesRetention, notices.Add, cancellationToken).ConfigureAwait(false);
        await new MigrationHistory(_stateDirectory).ForgetOldAsync(notices.Add, cancellationToken).ConfigureAwait(false);
        await using var recorder = await BeginJournalAsync(tree, workDirectory, cancellationToken).ConfigureAwait(false);
        var run = new Run(this, tree, workDirectory, recorder);
        PhaulMigrationResult result;
        try
        {
            await recorder.EnterAsync(MigrationState.Connecting).ConfigureAwait(false);
            foreach (var notice in notices)
                await recorder.WarnAsync(notice).ConfigureAwait(false);
            await run.MigrateAsync(cancellationToken).ConfigureAwait(false);
            result = await run.FinishAsync(null).ConfigureAwait(false);
        }
        catch (Exception exception) when (recorder.State == MigrationState.Completed)
        {
            // The program runs there: whatever goes wrong now is worth a word, and no more.
            await recorder.WarnAsync($"After the hand-over: {exception.Message}").ConfigureAwait(false);
            result = await run.FinishAsync(null).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            throw await run.FailAsync(exception, cancellationToken).ConfigureAwait(false);
        }

        return result;
    }

    private ProcessTree CaptureTree()
    {
        var tree = ProcessTree.Capture(Request.Pid);
        return Request.ProcessStartTime is not { } began || began == tree.Root.StartTime
            ? tree
            : throw new PhaulException(
                PhaulErrorId.ProcessNotFound, $"Process {Request.Pid} has ended, and {tree.Root.Command} has its pid now")
            {
                ProgramState = ProgramState.Gone,
            };
    }

    private Task<PhaulConnection> ConnectAsync(CancellationToken cancellationToken) =>
        PhaulConnector.ConnectAsync(
            Request.Destination, Request.ConnectTimeout, new ConnectionOptions { PeerTimeout = Request.PeerTimeout }, cancellationToken);

    private MigrationPreflight Preflight(ProcessTree tree) => new(Request, MigrationId, tree, _stateDirectory);

    private async Task<MigrationRecorder> BeginJournalAsync(ProcessTree tree, WorkDirectory workDirectory, CancellationToken cancellationToken)
    {
        var journal = await MigrationJournal.CreateAsync(_stateDirectory, MigrationId, MigrationSide.Source, cancellationToken).ConfigureAwait(false);
        await journal.AppendAsync(
            new Begun(
                MigrationId, MigrationSide.Source, Environment.MachineName, Request.Mode, Request.Pid, tree.Root.Command,
                Request.Destination.ToString(), workDirectory.Path)
            {
                PhaulVersion = PhaulVersion.Current,
                KeepImages = Request.KeepImages,
            },
            durable: false, cancellationToken).ConfigureAwait(false);
        await journal.AppendAsync(tree.ToRecord(), durable: false, cancellationToken).ConfigureAwait(false);
        return new MigrationRecorder(MigrationSide.Source, MigrationId, journal, _observer);
    }

    /// <summary>The state of one run, and its end.</summary>
    private sealed class Run(SourceMigration migration, ProcessTree tree, WorkDirectory workDirectory, MigrationRecorder recorder)
    {
        private static readonly TimeSpan LinkLossLimit = TimeSpan.FromSeconds(2);

        private MigrationRequest Request => migration.Request;

        private MigrationMode _mode = migration.Request.Mode;
        private string? _destinationHost;
        private Handover? _handover;
        private PageRelay? _relay;
        private PhaulConnection? _connection;
        private bool _heldCopyIsGone = true;

        public async Task MigrateAsync(CancellationToken cancellationToken)
        {
            _connection = await migration.ConnectAsync(cancellationToken).ConfigureAwait(false);
            _destinationHost = _connection.Peer.HostName;
            await recorder.WriteAsync(new PeerMet(
                _connection.Peer.HostName, _connection.Peer.Address, _connection.Peer.Fingerprint,
                new PeerEndpoint(
                    Request.Destination.Host, Request.Destination.Port, Request.Destination.UnixSocketPath, Request.Destination.InsecureLoopback)))
                .ConfigureAwait(false);
            await using var remote = new RemoteDestination(_connection);
            await using var gate = new CommitGate();
            gate.CallOffOn(cancellationToken, () => new PhaulException(PhaulErrorId.Cancelled, "The migration was cancelled"));
            gate.CallOffOn(remote.Broken, () => remote.Fault ?? new PhaulException(PhaulErrorId.ConnectionLost, "The connection broke"));
            var delivery = new CommitDelivery(Request, recorder);
            try
            {
                await recorder.EnterAsync(MigrationState.Checking).ConfigureAwait(false);
                var preflight = migration.Preflight(tree);
                preflight.Refuse(await preflight.RunAsync(remote, checkOnly: false, gate.CallOffToken).ConfigureAwait(false));
                _mode = preflight.Mode;
                foreach (var warning in preflight.Warnings)
                    await recorder.WarnAsync(warning).ConfigureAwait(false);

                await CopyAndHandOverAsync(remote, gate, delivery, preflight.MemoryBytes).ConfigureAwait(false);
            }
            catch (Exception exception)
            {
                // Not committed: the destination is to discard what it has. Committed: its copy may be the only one.
                if (_handover is not { IsCommitted: true })
                {
                    _heldCopyIsGone = await delivery.AbortAsync(remote, _handover is { RestoreWasRequested: true }, exception.Message)
                        .ConfigureAwait(false);
                    // A lost link takes CRIU's pages away as well, and whoever of the two is told first is chance: the link is the cause
                    if (exception is CriuException && !remote.IsConnected)
                        await Task.Delay(LinkLossLimit, remote.Broken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                }

                if (exception is OperationCanceledException or CriuException && gate.Reason is { } reason)
                    throw reason;
                throw;
            }

            await TellAsync(remote, new SourceMessage { RecordResult = new RecordResult { Json = RecordJson.Write(Result(null)) } })
                .ConfigureAwait(false);
        }

        private async Task CopyAndHandOverAsync(RemoteDestination remote, CommitGate gate, CommitDelivery delivery, long memoryBytes)
        {
            workDirectory.Create();
            await recorder.WriteAsync(new ImagesPlace(workDirectory.Path)).ConfigureAwait(false);
            var (criuEnd, relayEnd) = SocketPair.CreateStream(PageRelay.LocalBuffer);
            using var criuSocket = criuEnd;
            using var limit = Request.BandwidthLimit is { } bytesPerSecond ? new BandwidthLimit(bytesPerSecond) : null;
            await using var relay = _relay = new PageRelay(relayEnd, _connection!.OpenChannel(ChannelId.Pages)) { Limit = limit };
            relay.Start();
            await using var criuLog = CriuLogFollower.For(recorder, workDirectory.Path, Request.FollowCriuLog);
            await using var ticker = new ProgressTicker(recorder, () => relay.BytesToPeer, memoryBytes);

            var config = new PhaulConfig
            {
                Pid = Request.Pid,
                MemorySocket = criuSocket,
                WorkDirectory = workDirectory.Path,
                CriuPath = Request.CriuPath,
                Options = DumpRequest.OptionsOf(Request),
                Convergence = Request.Convergence,
                TrackMemory = _mode is MigrationMode.PreCopy or MigrationMode.Hybrid,
                MigrationId = migration.MigrationId,
                PageByteCounter = () => relay.BytesToPeer,
            };
            remote.ExpectedBytes = memoryBytes;
            remote.Final = config.TrackMemory is false;
            _handover = new Handover(
                remote, _connection!.OpenChannel(ChannelId.Images), recorder, delivery, gate, Request.MaxFrozen, Request.Durable,
                beforeFreeze: () =>
                {
                    // What is frozen is not to wait for the sake of others, unless that was asked for.
                    if (!Request.LimitFrozenPart)
                        limit?.Lift();
                });

            if (config.TrackMemory is true)
                await recorder.EnterAsync(MigrationState.PreCopying).ConfigureAwait(false);

            await JitWarmUp.Completion.WaitAsync(gate.CallOffToken).ConfigureAwait(false);
            // CRIU can only be interrupted by its pages having nowhere to go.
            await using var cut = gate.CallOffToken.Register(() => Cut(criuSocket));
            await new PhaulClient(_handover, remote, config)
                .MigrateAsync(iteration => RecordAsync(iteration, remote), gate.CallOffToken).ConfigureAwait(false);
        }

        private static void Cut(Socket socket)
        {
            try
            {
                socket.Shutdown(SocketShutdown.Both);
            }
            catch (SocketException)
            {
                // The other end has gone already, which is as good.
            }
        }

        private async Task RecordAsync(PhaulIteration iteration, RemoteDestination remote)
        {
            await recorder.RecordIterationAsync(iteration).ConfigureAwait(false);
            remote.ExpectedBytes = iteration.BytesSent * 2;
            remote.Final = iteration.Decision == IterationDecision.HandOver;
            await TellAsync(remote, new SourceMessage { RecordIteration = new RecordIteration { Json = RecordJson.Write(iteration) } })
                .ConfigureAwait(false);
        }

        /// <summary>The destination's own records are a courtesy: they do not hold a migration up.</summary>
        private async Task TellAsync(RemoteDestination remote, SourceMessage message)
        {
            try
            {
                using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5));
                await remote.RecordAsync(message, limit.Token).ConfigureAwait(false);
            }
            catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
            {
                recorder.Story($"The destination did not take a record for its own journal: {exception.Message}");
            }
        }

        public async Task<PhaulMigrationResult> FinishAsync(PhaulException? error, ProgramState? programState = null)
        {
            var keep = Request.KeepImages || error is not null;
            if (!keep && workDirectory.TryRemove() is { } reason)
                await recorder.WarnAsync($"The images in {workDirectory.Path} could not be removed: {reason}").ConfigureAwait(false);
            var result = Result(error, programState);
            await recorder.WriteIfPossibleAsync(new Finished(result), durable: true).ConfigureAwait(false);
            return result;
        }

        public async Task<PhaulException> FailAsync(Exception exception, CancellationToken cancellationToken)
        {
            var step = recorder.State;
            var error = SourceFailure.Explain(exception, step, Request, _handover, cancellationToken);
            // Where the journal could not take the first state, none can follow.
            if (recorder.States.Count > 0 && !recorder.IsFinal && recorder.State != MigrationState.InDoubt)
            {
                // After the commit nothing that went wrong here says that the tree lives.
                await recorder.EnterIfPossibleAsync(
                    _handover is { IsCommitted: true } ? MigrationState.InDoubt : MigrationState.RolledBack, error.Message, durable: true)
                    .ConfigureAwait(false);
            }

            var programState = recorder.State switch
            {
                MigrationState.RolledBack => SourceFailure.StateOf(tree),
                MigrationState.Completed => ProgramState.RunningOnDestination,
                MigrationState.InDoubt when error.ProgramState == ProgramState.RunningOnSource =>
                    _handover is { TreeIsGone: true } ? ProgramState.HeldOnDestination : ProgramState.Unknown,
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
                MigrationId = migration.MigrationId,
                Side = MigrationSide.Source,
                Mode = _mode,
                State = recorder.State,
                ProgramState = programState ?? recorder.State switch
                {
                    MigrationState.Completed => ProgramState.RunningOnDestination,
                    MigrationState.InDoubt => error?.ProgramState ?? ProgramState.Unknown,
                    _ => ProgramState.RunningOnSource,
                },
                SourceHost = Environment.MachineName,
                DestinationHost = _destinationHost ?? Request.Destination.Host ?? Request.Destination.ToString(),
                Pid = Request.Pid,
                ProcessName = tree.Root.Command,
                DestinationPid = _handover?.DestinationPid,
                StartTime = recorder.StartTime,
                Duration = recorder.Elapsed,
                Downtime = _handover?.Downtime,
                BytesSent = _connection?.BytesSent ?? 0,
                PageBytes = _relay?.BytesToPeer ?? 0,
                ImageBytes = _handover?.ImageBytes ?? 0,
                PagesWritten = iterations.Sum(iteration => iteration.PagesWritten),
                IterationCount = iterations.Count,
                States = recorder.States,
                ImagesDirectory = Directory.Exists(workDirectory.Path) ? workDirectory.Path : null,
                Warnings = recorder.Warnings,
                Error = error?.Message,
            };
        }
    }
}
