// Listens for sources and serves their migrations; keeps those that hold a prepared tree until a verdict comes.

using System.Collections.Concurrent;
using System.Net;
using Phaul.Criu;
using Phaul.Journal;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>The destination of migrations. One object serves many, one after the other and at the same time.</summary>
/// <example>
/// <code>
/// await using var server = new DestinationServer(new DestinationServerOptions { Certificate = mine, TrustedFingerprints = [theirs] });
/// await server.StartAsync();
/// await server.Completion;
/// </code>
/// </example>
public sealed class DestinationServer : IAsyncDisposable
{
    // A source that has connected and says nothing holds a connection; it gets this long to say what it wants.
    private static readonly TimeSpan FirstMessageLimit = TimeSpan.FromSeconds(30);

    private readonly IProgress<MigrationEvent>? _observer;
    private readonly StateDirectory _stateDirectory;
    private readonly CancellationTokenSource _stopping = new();
    private readonly ConcurrentDictionary<string, DestinationMigration> _migrations = new();
    private readonly ConcurrentDictionary<Task, bool> _work = new();
    private readonly object _starting = new();
    private PhaulListener? _listener;
    private PhaulListener? _control;
    private Task _accepting = Task.CompletedTask;
    private Task _resolving = Task.CompletedTask;
    private Task? _stopped;

    /// <summary>Makes a server; nothing is opened yet.</summary>
    /// <param name="options">Where to listen, whom to trust, what to use.</param>
    /// <param name="observer">Told of everything that happens in all migrations; each event names its migration.</param>
    public DestinationServer(DestinationServerOptions options, IProgress<MigrationEvent>? observer = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        Options = options;
        _observer = observer;
        _stateDirectory = new StateDirectory(options.StateDirectory);
    }

    /// <summary>What it was told.</summary>
    public DestinationServerOptions Options { get; }

    /// <summary>Where it listens, the real port included; null before the start.</summary>
    public EndPoint? LocalEndPoint => _listener?.LocalEndPoint;

    /// <summary>The SHA-256 fingerprint for sources to pin; null before the start and without TLS.</summary>
    public string? Fingerprint => _listener?.Fingerprint;

    /// <summary>Its state.</summary>
    public ServerState State { get; private set; }

    /// <summary>The migrations being served, and those that hold a prepared tree.</summary>
    public IReadOnlyList<ActiveMigration> ActiveMigrations => _migrations.Values.Select(migration => migration.Snapshot).ToArray();

    /// <summary>Migrations in the state directory that a crash left unresolved, found at the start.</summary>
    public IReadOnlyList<string> UnresolvedMigrations { get; private set; } = [];

    /// <summary>Ends when the server has ended; faulted if it ended by itself.</summary>
    public Task Completion => _completion.Task;

    private readonly TaskCompletionSource _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>With <see cref="DestinationServerOptions.ResolveAtStart"/>: a migration that an earlier process left was looked at.</summary>
    public event Action<MigrationResolution>? Resolved;

    /// <summary>Connections that were not let in, and other things that concern no migration.</summary>
    public event Action<string>? Notice;

    /// <summary>Checks the options and the host and begins to listen.</summary>
    /// <exception cref="PhaulException">It cannot listen as asked, or there is no criu.</exception>
    public async Task StartAsync(CancellationToken cancellationToken = default)
    {
        _ = JitWarmUp.Completion;
        lock (_starting)
        {
            if (State != ServerState.Created)
                throw new InvalidOperationException($"The server is {State}.");
            State = ServerState.Listening;
        }

        try
        {
            await RequireCriuAsync(cancellationToken).ConfigureAwait(false);
            var history = await new MigrationHistory(_stateDirectory).ReadAsync(cancellationToken).ConfigureAwait(false);
            UnresolvedMigrations = history
                .Where(summary => summary.NeedsResolution)
                .Select(summary => summary.MigrationId)
                .Distinct()
                .ToArray();
            await TrimFailedImagesAsync(cancellationToken).ConfigureAwait(false);
            await new MigrationHistory(_stateDirectory).ForgetOldAsync(text => Notice?.Invoke(text), cancellationToken).ConfigureAwait(false);
            _listener = PhaulListener.Start(new ListenOptions
            {
                Address = Options.Address,
                Port = Options.Port,
                UnixSocketPath = Options.UnixSocketPath,
                Certificate = Options.Certificate,
                TrustedFingerprints = Options.TrustedFingerprints,
                InsecureLoopback = Options.InsecureLoopback,
                Connection = new ConnectionOptions { PeerTimeout = Options.PeerTimeout },
                Rejected = text => Notice?.Invoke(text),
            });
            _control = ControlSocket.TryListen(_stateDirectory, text => Notice?.Invoke(text));
        }
        catch (Exception exception)
        {
            State = ServerState.Faulted;
            _completion.TrySetException(exception);
            throw;
        }

        _accepting = Task.WhenAll(AcceptAsync(_listener), _control is null ? Task.CompletedTask : AcceptAsync(_control));
        if (Options.ResolveAtStart)
            _resolving = Task.Run(ResolveLeftAsync, CancellationToken.None);
    }

    /// <summary>
    /// Settles a migration of which this host is the destination, as far as that can be done: what this server holds, and what an
    /// earlier one has left. Null: another process is at it.
    /// </summary>
    /// <param name="migrationId">The migration.</param>
    /// <param name="word">What the operator knows and this host cannot.</param>
    /// <param name="by">Who settles it, for the journal.</param>
    /// <param name="cancellationToken">Gives up before it begins to restore.</param>
    /// <exception cref="PhaulException">There is no such migration, the word contradicts it, or it could not be carried out.</exception>
    public async Task<MigrationResolution?> ResolveAsync(
        string migrationId, OperatorWord word, string by, CancellationToken cancellationToken = default)
    {
        if (!_migrations.TryGetValue(migrationId, out var migration))
        {
            return JournalReader.IsWriterAlive(_stateDirectory.JournalPath(migrationId, MigrationSide.Destination))
                ? null
                : await DestinationResolution.ResolveAsync(
                    _stateDirectory, Options.CriuPath, Options.FollowCriuLog, migrationId, word, by, _observer, cancellationToken).ConfigureAwait(false);
        }

        var summary = await DestinationResolution.SummaryAsync(_stateDirectory, migrationId, cancellationToken).ConfigureAwait(false);
        if (migration.State != MigrationState.InDoubt)
            return DestinationResolution.InProgress(summary, "it is under way, and its source is connected");
        if (word == OperatorWord.None)
            return DestinationResolution.NeedsWord(summary);
        var verdict = word == OperatorWord.SourceIsGone ? Settle.Types.Verdict.Committed : Settle.Types.Verdict.RolledBack;
        DestinationMessage answer;
        try
        {
            answer = await SettleHeldAsync(migration, verdict, by).ConfigureAwait(false);
        }
        catch (PhaulException lost) when (lost.ErrorId == PhaulErrorId.ProgramLost)
        {
            return DestinationResolution.Settled(summary, MigrationState.Lost, null, lost.Message, "what was left of it was ended", hasEnded: false);
        }

        return DestinationResolution.Settled(
            summary, answer.Running is not null ? MigrationState.Running : MigrationState.Discarded, answer.Running?.RootPid,
            "the restored tree was held here", answer.Running is not null ? "it was run" : "it was discarded", hasEnded: false);
    }

    /// <summary>
    /// Stops listening, rolls back what is not prepared, finishes what is as long as its source is there, and ends. A prepared
    /// tree whose source was lost ends with the server: the migration stays InDoubt, and is restored again from its images if
    /// the verdict comes to a later server.
    /// </summary>
    public Task StopAsync(CancellationToken cancellationToken = default)
    {
        lock (_starting)
            _stopped ??= StopOnceAsync();
        return _stopped.WaitAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        _stopping.Dispose();
    }

    private Task TrimFailedImagesAsync(CancellationToken cancellationToken) => FailedImages.TrimAsync(
        _stateDirectory, Options.WorkDirectory ?? _stateDirectory.ImagesPath, MigrationSide.Destination,
        Options.MaxFailedImages, Options.FailedImagesRetention, text => Notice?.Invoke(text), cancellationToken);

    private async Task StopOnceAsync()
    {
        if (State == ServerState.Listening)
            State = ServerState.Stopping;
        await _stopping.CancelAsync().ConfigureAwait(false);
        if (_listener is not null)
            await _listener.DisposeAsync().ConfigureAwait(false);
        if (_control is not null)
            await _control.DisposeAsync().ConfigureAwait(false);
        await _accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _resolving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        // What is being done brings perhaps something more to be done
        while (_work.Keys.Where(task => !task.IsCompleted).ToArray() is { Length: > 0 } work)
            await Task.WhenAll(work).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        foreach (var id in _migrations.Keys)
        {
            if (_migrations.TryRemove(id, out var migration))
                await migration.DisposeAsync().ConfigureAwait(false);
        }

        if (State != ServerState.Faulted)
            State = ServerState.Stopped;
        _completion.TrySetResult();
    }

    private async Task AcceptAsync(PhaulListener listener)
    {
        try
        {
            while (true)
            {
                var connection = await listener.AcceptAsync(_stopping.Token).ConfigureAwait(false);
                var serving = ServeConnectionAsync(connection, listener == _control);
                Own(serving);
            }
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            // Asked to stop.
        }
        catch (Exception exception)
        {
            State = ServerState.Faulted;
            _completion.TrySetException(exception);
        }
    }

    private async Task ServeConnectionAsync(PhaulConnection connection, bool isControl)
    {
        await using var owned = connection.ConfigureAwait(false);
        try
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token);
            limit.CancelAfter(FirstMessageLimit);
            var first = await connection.ReceiveControlAsync(SourceMessage.Parser, limit.Token).ConfigureAwait(false);
            switch (first.BodyCase)
            {
                case SourceMessage.BodyOneofCase.Begin:
                    await ServeMigrationAsync(connection, first).ConfigureAwait(false);
                    break;
                case SourceMessage.BodyOneofCase.Settle:
                    // Let in although the server may be full: it ends a migration rather than beginning one.
                    await AnswerLastAsync(connection, first, await SettleAsync(connection, first).ConfigureAwait(false)).ConfigureAwait(false);
                    break;
                case SourceMessage.BodyOneofCase.Resolve when isControl:
                    await AnswerLastAsync(connection, first, await ResolveAsync(first.Resolve).ConfigureAwait(false)).ConfigureAwait(false);
                    break;
                default:
                    throw new PhaulException(PhaulErrorId.ProtocolError, $"{first.BodyCase} is no first message");
            }
        }
        catch (Exception exception)
        {
            Notice?.Invoke($"{connection.Peer.Address}: {exception.Message}");
        }
    }

    private async Task ServeMigrationAsync(PhaulConnection connection, SourceMessage begin)
    {
        var migration = await AdmitAsync(connection, begin).ConfigureAwait(false);
        _migrations[migration.MigrationId] = migration;
        try
        {
            await migration.ServeAsync(begin.Request, _stopping.Token).ConfigureAwait(false);
        }
        finally
        {
            if (!migration.AwaitsVerdict)
                await RemoveAsync(migration).ConfigureAwait(false);
        }
    }

    private async Task<DestinationMigration> AdmitAsync(PhaulConnection connection, SourceMessage begin)
    {
        try
        {
            // What only waits for a verdict moves no data: a crashed source must not shut out all others.
            var active = _migrations.Values.Count(served => !served.AwaitsVerdict);
            if (active >= Options.MaxMigrations)
            {
                throw new PhaulException(
                    PhaulErrorId.ServerBusy, $"{active} migrations are being served already, the limit of this server")
                {
                    RecommendedAction = "Wait for one of them, or raise the server's -MaxMigrations / --max-migrations.",
                };
            }

            // So that what failed before leaves its disk to this one.
            await TrimFailedImagesAsync(_stopping.Token).ConfigureAwait(false);
            return await DestinationMigration.OpenAsync(
                Options, _stateDirectory, connection, begin.Begin, _observer, _stopping.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            await AnswerAsync(connection, begin.Request, Failed(exception, MigrationState.Accepted)).ConfigureAwait(false);
            throw exception as PhaulException ?? new PhaulException(PhaulErrorId.InternalError, exception.Message, exception);
        }
    }

    private async Task<DestinationMessage> SettleAsync(PhaulConnection connection, SourceMessage message)
    {
        try
        {
            var id = Journal.MigrationId.Check(message.Settle.MigrationId);
            var verdict = message.Settle.Verdict;
            if (verdict == Settle.Types.Verdict.Unspecified)
                throw new PhaulException(PhaulErrorId.ProtocolError, "The source gave no verdict");
            if (!_migrations.TryGetValue(id, out var migration))
            {
                return await new DestinationRecovery(_stateDirectory, Options.CriuPath, Options.FollowCriuLog, _observer)
                    .SettleAsync(id, verdict, connection.Peer.Fingerprint, _stopping.Token).ConfigureAwait(false);
            }

            DestinationRecovery.RequirePeer(migration.PeerFingerprint, connection.Peer.Fingerprint);
            return verdict == Settle.Types.Verdict.Ask
                ? new DestinationMessage { Standing = new Standing { State = migration.State.ToString() } }
                : await SettleHeldAsync(migration, verdict, "the source").ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            return Failed(exception, MigrationState.InDoubt);
        }
    }

    private async Task<DestinationMessage> SettleHeldAsync(DestinationMigration migration, Settle.Types.Verdict verdict, string by)
    {
        try
        {
            return await migration.SettleAsync(verdict, by).ConfigureAwait(false);
        }
        finally
        {
            // What failed in the middle of the commit holds nothing any more: the next verdict starts from the journal. What runs may
            // take long to get its memory, and the answer does not wait for that.
            if (migration.State != MigrationState.InDoubt)
                Own(RemoveAsync(migration));
        }
    }

    private async Task<DestinationMessage> ResolveAsync(Resolve request)
    {
        try
        {
            var resolution = await ResolveAsync(
                Journal.MigrationId.Check(request.MigrationId), WireEnum.Parse<OperatorWord>(request.Word), request.By, _stopping.Token).ConfigureAwait(false);
            return new DestinationMessage { Resolved = new Resolved { Json = resolution is null ? "" : RecordJson.Write(resolution) } };
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            return Failed(exception, MigrationState.InDoubt);
        }
    }

    private async Task AnswerLastAsync(PhaulConnection connection, SourceMessage message, DestinationMessage answer)
    {
        await AnswerAsync(connection, message.Request, answer).ConfigureAwait(false);
        // The other side closes; closing first could lose the answer that is still under way.
        await ((Task)connection.ReceiveControlAsync(SourceMessage.Parser, _stopping.Token)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>What can be settled without a person. It must not keep sources waiting, and failing is no reason not to serve.</summary>
    private async Task ResolveLeftAsync()
    {
        try
        {
            var resolver = new MigrationResolver(
                new ResolveOptions
                {
                    StateDirectory = Options.StateDirectory,
                    CriuPath = Options.CriuPath,
                    Certificate = Options.Certificate,
                    By = "the server, at its start",
                },
                _observer);
            await foreach (var resolution in resolver.ResolveAllAsync(_stopping.Token).ConfigureAwait(false))
                Resolved?.Invoke(resolution);
        }
        catch (Exception exception) when (!_stopping.IsCancellationRequested)
        {
            Notice?.Invoke($"What was left could not be settled: {exception.Message}");
        }
    }

    /// <summary>Waited for when the server stops.</summary>
    private void Own(Task work)
    {
        _work[work] = true;
        // The entry goes when the task ends; a task that has ended already is found by the continuation as well.
        _ = work.ContinueWith(done => _work.TryRemove(done, out _), TaskScheduler.Default);
    }

    private async Task RemoveAsync(DestinationMigration migration)
    {
        await migration.Finished.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_migrations.TryRemove(migration.MigrationId, out _))
            await migration.DisposeAsync().ConfigureAwait(false);
    }

    private async Task RequireCriuAsync(CancellationToken cancellationToken)
    {
        try
        {
            await using var criu = new CriuClient(new CriuClientOptions { CriuPath = Options.CriuPath });
            await criu.GetVersionAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (CriuException exception)
        {
            throw new PhaulException(
                exception.Kind == CriuFailure.NotFound ? PhaulErrorId.CriuNotFound : PhaulErrorId.CheckFailed, exception.Message, exception)
            {
                Host = Environment.MachineName,
                CriuLog = exception.LogTail,
                RecommendedAction = $"Install criu 4 on this host, or name it with -CriuPath / --criu (now: {Options.CriuPath}).",
            };
        }
    }

    private static DestinationMessage Failed(Exception exception, MigrationState step) =>
        new() { Failure = FailureOnWire.ToMessage(exception, Environment.MachineName, step) };

    private static async Task AnswerAsync(PhaulConnection connection, ulong request, DestinationMessage answer)
    {
        answer.Request = request;
        await connection.SendControlAsync(answer, CancellationToken.None).ConfigureAwait(false);
    }
}
