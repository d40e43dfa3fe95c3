// One migration from the source's side, top to bottom: connect, check, copy, hand over.

using System.Net.Sockets;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Images;
using Phaul.Images.Pages;
using Phaul.Journal;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Procfs;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>One run of a <see cref="SourceMigration"/>.</summary>
internal sealed partial class SourceRun(
    MigrationRequest request, ProcessTree tree, MigrationPreflight preflight, WorkDirectory workDirectory, MigrationRecorder recorder,
    StateDirectory records)
{
    private static readonly TimeSpan LinkLossLimit = TimeSpan.FromSeconds(2);
    private const long WorthMentioning = 16 << 20;
    private static readonly TimeSpan CollapseLimit = TimeSpan.FromMinutes(1);

    private readonly CommitDelivery _delivery = new(request, recorder);
    private PhaulConnection? _connection;
    private PageRelay? _relay;
    private LatePages? _late;
    private MemoryPrefetch? _prefetch;
    private ILastStep? _lastStep;
    private bool _heldCopyIsGone = true;

    private bool Iterates => RequestRules.Iterates(preflight.Mode);

    private long PageBytes => (_relay?.BytesToPeer ?? 0) + (_late?.BytesSent ?? 0) + (_prefetch?.BytesSent ?? 0);

    private bool LeavesMemoryBehind => RequestRules.LeavesMemoryBehind(preflight.Mode);

    /// <summary>When it comes back, the program runs on the destination.</summary>
    /// <exception cref="Exception">Anything that went wrong; <see cref="FailAsync"/> makes the operator's error of it.</exception>
    public async Task MigrateAsync(CancellationToken cancellationToken)
    {
        await using var remote = await RemoteDestination.ConnectAsync(request, cancellationToken).ConfigureAwait(false);
        await RememberPeerAsync(remote.Connection).ConfigureAwait(false);
        await using var gate = new CommitGate();
        gate.CallOffOn(cancellationToken, () => new PhaulException(PhaulErrorId.Cancelled, "The migration was cancelled"));
        await using var tooLate = cancellationToken.Register(() => SayTooLate(remote)).ConfigureAwait(false);
        gate.CallOffOn(remote.Broken, () => remote.Fault ?? new PhaulException(PhaulErrorId.ConnectionLost, "The connection broke"));
        try
        {
            await CheckAsync(remote, gate.CallOffToken).ConfigureAwait(false);
            if (request.CollapseMemory)
                await CollapseMemoryAsync(gate.CallOffToken).ConfigureAwait(false);
            await CopyAndHandOverAsync(remote, gate).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            await CallOffAsync(remote, exception).ConfigureAwait(false);
            if (exception is OperationCanceledException or CriuException && gate.Reason is { } reason)
                throw reason;
            throw;
        }

        if (request.Local is not null)
            await _delivery.ReleaseAsync(remote).ConfigureAwait(false);
        await TellResultAsync(remote).ConfigureAwait(false);
    }

    private void SayTooLate(RemoteDestination remote)
    {
        if (_lastStep is not { IsCommitted: true } step)
            return;
        var follows = LeavesMemoryBehind && step.Downtime is not null && step.MemoryCompleteAfter is null && remote.IsConnected;
        recorder.Tell(new WarningEvent(recorder.MigrationId, DateTimeOffset.Now, follows
            ? "Too late to cancel: the program runs on the destination, and its memory follows. That is waited for; to end Phaul before loses the program."
            : "Too late to cancel: the migration is committed, and is completed."));
    }

    private Task RememberPeerAsync(PhaulConnection connection)
    {
        _connection = connection;
        var (peer, place) = (connection.Peer, request.Destination);
        return recorder.WriteAsync(new PeerMet(
            peer.HostName, peer.Address, peer.Fingerprint,
            new PeerEndpoint(place.Host, place.Port, place.UnixSocketPath, place.InsecureLoopback)));
    }

    private async Task CheckAsync(RemoteDestination remote, CancellationToken cancellationToken)
    {
        await recorder.EnterAsync(MigrationState.Checking).ConfigureAwait(false);
        preflight.Refuse(await preflight.RunAsync(remote, checkOnly: false, cancellationToken).ConfigureAwait(false));
        await recorder.WarnAsync([.. preflight.Warnings, .. RequestRules.WithoutEffect(request, preflight.Mode)]).ConfigureAwait(false);
    }

    private async Task CollapseMemoryAsync(CancellationToken cancellationToken)
    {
        var outcome = await MemoryCollapse.RunAsync(
            [.. ProcessTree.Capture(request.Pid).Members.Select(member => member.Pid)], CollapseLimit, cancellationToken).ConfigureAwait(false);
        recorder.Story($"{outcome.Bytes >> 20} MiB are in huge pages, after {outcome.Elapsed.TotalMilliseconds:0} ms");
        if (outcome.Obstacle is { } obstacle)
            await recorder.WarnAsync($"Not all memory could be gathered into huge pages: {obstacle}").ConfigureAwait(false);
    }

    private async Task CopyAndHandOverAsync(RemoteDestination remote, CommitGate gate)
    {
        workDirectory.Create();
        await recorder.WriteAsync(new ImagesPlace(workDirectory.Path)).ConfigureAwait(false);

        // CRIU writes its pages into one end, the relay sends on what comes out of the other.
        var (criuEnd, relayEnd) = SocketPair.CreateStream(PageRelay.LocalBuffer);
        using var criuSocket = criuEnd;
        using var limit = request.BandwidthLimit is { } bytesPerSecond ? new BandwidthLimit(bytesPerSecond) : null;
        var pages = remote.Connection.OpenChannel(ChannelId.Pages);
        if (request.Compression != CompressionMode.Off && remote.Connection.Peer.Capabilities.Contains(Lz4Block.Capability))
            pages.Packer = new FramePacker(always: request.Compression == CompressionMode.On);
        await using var relay = _relay = new PageRelay(relayEnd, pages) { Limit = limit };
        using var prefetch = _prefetch = preflight.Mode == MigrationMode.Prefetch
            ? new MemoryPrefetch(request.Pid, pages, PageServerHeader.FormatOf(preflight.CriuVersion))
            : null;
        if (prefetch is null)
            relay.Start();
        // CRIU can only be interrupted by its pages having nowhere to go.
        await using var cut = gate.CallOffToken.Register(() => SocketPair.Cut(criuSocket));

        await using var criuLog = CriuLogFollower.For(recorder, workDirectory.Path, request.FollowCriuLog);
        var (lateEnd, lateServed) = LeavesMemoryBehind ? SocketPair.CreateStream(PageRelay.LocalBuffer) : default;
        using var lateSocket = lateEnd;
        await using var late = _late = LeavesMemoryBehind
            ? new LatePages(lateServed, pages, preflight.CriuVersion, relay)
            : null;
        await using var ticker = new ProgressTicker(
            recorder, () => PageBytes, preflight.MemoryBytes,
            () => LeavesMemoryBehind && _lastStep?.Downtime is not null, remote.Broken);
        if (Iterates)
            await recorder.EnterAsync(MigrationState.PreCopying).ConfigureAwait(false);
        await JitWarmUp.Completion.WaitAsync(gate.CallOffToken).ConfigureAwait(false);

        _lastStep = LastStep(remote, gate, limit);
        remote.ExpectedBytes = preflight.MemoryBytes;
        remote.MemoryFollows = preflight.Mode == MigrationMode.PostCopy;
        var cost = Iterates
            ? await HandOverCost.MeasuredAsync(records, remote.Connection.Peer.HostName, gate.CallOffToken).ConfigureAwait(false)
            : null;
        await new PhaulClient(_lastStep, remote, Config(criuSocket, lateSocket, remote) with
        {
            HandOverCost = cost,
            Prefetch = prefetch,
            IterationsEnded = prefetch is null ? null : () => EndPrefetchAsync(relay, prefetch),
            PageByteCounter = () => PageBytes,
        })
            .MigrateAsync(iteration => RecordAsync(iteration, remote), gate.CallOffToken).ConfigureAwait(false);
    }

    private PhaulConfig Config(Socket criuSocket, Socket? lateSocket, RemoteDestination remote) => new()
    {
        Pid = request.Pid,
        MemorySocket = criuSocket,
        LateSocket = lateSocket,
        WorkDirectory = workDirectory.Path,
        CriuPath = request.CriuPath,
        Options = DumpRequest.OptionsOf(request),
        Convergence = request.Convergence,
        TrackMemory = Iterates,
        MigrationId = recorder.MigrationId,
        LateStatistics = _late is { } late ? () => LateStatistics(late) : null,
        RemoteWorkDirectory = remote.ImagesDirectory,
    };

    // From now on the pages are CRIU's
    private async Task EndPrefetchAsync(PageRelay relay, MemoryPrefetch prefetch)
    {
        if (prefetch.SwappedBytes > WorthMentioning)
            await recorder.WarnAsync($"{prefetch.SwappedBytes >> 20} MiB are swapped out, and move while the program is frozen").ConfigureAwait(false);
        relay.Filter = prefetch.End();
        relay.Start();
    }

    private DumpStatistics LateStatistics(LatePages late)
    {
        var pages = late.BytesSent / Environment.SystemPageSize;
        return new DumpStatistics { FrozenTime = _lastStep?.Downtime ?? default, PagesScanned = pages, PagesWritten = pages, PagesLazy = pages };
    }

    private ILastStep LastStep(RemoteDestination remote, CommitGate gate, BandwidthLimit? limit) => request.Local is { } engine
        ? new OwnEngine(engine, recorder)
        : new Handover(remote, remote.Connection.OpenChannel(ChannelId.Images), recorder, _delivery, gate, request)
        {
            // What is frozen is not to wait for the sake of others, unless that was asked for.
            Limit = request.LimitFrozenPart ? null : limit,
            LatePages = _late,
            HasNetworkFiles = NetworkFiles.AreOpenIn(ProcessTree.Capture(request.Pid), ProcFileSystem.Host),
        };

    private async Task RecordAsync(PhaulIteration iteration, RemoteDestination remote)
    {
        await recorder.RecordIterationAsync(iteration).ConfigureAwait(false);
        remote.ExpectedBytes = iteration.BytesSent * 2;
        remote.MemoryFollows = preflight.Mode == MigrationMode.Hybrid && iteration.Decision == IterationDecision.HandOver;
        await TellAsync(remote, new SourceMessage { RecordIteration = new RecordIteration { Json = RecordJson.Write(iteration) } })
            .ConfigureAwait(false);
    }

    private Task TellResultAsync(RemoteDestination remote) =>
        TellAsync(remote, new SourceMessage { RecordResult = new RecordResult { Json = RecordJson.Write(Result(null)) } });

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
}
