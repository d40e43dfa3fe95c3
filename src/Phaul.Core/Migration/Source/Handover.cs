// The hand-over on the source: never two, never none. Read with "The hand-over" in docs/architecture.md.

using System.Diagnostics;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Images;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul;

/// <summary>
/// The last step of a migration: dump, move the images, have the tree restored and held there, let it die here, see that it
/// is dead, and only then let it run there. The death of the source tree is the commit.
/// </summary>
internal sealed partial class Handover : ILastStep
{
    // Killing is CRIU's last act on a frozen tree and takes milliseconds; large trees give back their memory first.
    private static readonly TimeSpan DeathLimit = TimeSpan.FromSeconds(60);

    // CRIU has gone after the commit was decided: what it has not killed by now it never will.
    private static readonly TimeSpan DeathLimitWithoutCriu = TimeSpan.FromSeconds(2);

    private readonly RemoteDestination _remote;
    private readonly PhaulChannel _imageChannel;
    private readonly MigrationRecorder _recorder;
    private readonly CommitDelivery _delivery;
    private readonly CommitGate _gate;
    private readonly MigrationRequest _request;
    private readonly Stopwatch _frozen = new();
    private readonly TaskCompletionSource _decided = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private TreeWatch? _tree;
    private int _endedBefore;

    public Handover(
        RemoteDestination remote, PhaulChannel imageChannel, MigrationRecorder recorder, CommitDelivery delivery, CommitGate gate,
        MigrationRequest request)
    {
        (_remote, _imageChannel, _recorder, _delivery, _gate, _request) = (remote, imageChannel, recorder, delivery, gate, request);
    }

    /// <summary>What holds back the pages until the freeze, and no longer; null: nothing, or the frozen part as well.</summary>
    public BandwidthLimit? Limit { get; init; }

    /// <summary>Whether the tree has files open that the other host may see, too: then its death is waited for to the very end.</summary>
    public bool HasNetworkFiles { get; init; }

    /// <summary>Serves what stays behind when the program goes (PostCopy, Hybrid); null: nothing does.</summary>
    public LatePages? LatePages { get; init; }

    /// <summary>From just before the freeze to the destination's word that it runs; null before that.</summary>
    public TimeSpan? Downtime { get; private set; }

    public TimeSpan? MemoryCompleteAfter { get; private set; }

    /// <inheritdoc/>
    public int? DestinationPid { get; private set; }

    /// <inheritdoc/>
    public bool IsCommitted { get; private set; }

    /// <inheritdoc/>
    public bool TreeIsGone { get; private set; }

    /// <inheritdoc/>
    public bool RestoreWasRequested { get; private set; }

    /// <inheritdoc/>
    public long ImageBytes { get; private set; }

    /// <inheritdoc/>
    /// <remarks>Cancellation is the gate's affair, for it ends where the commit begins: <paramref name="cancellationToken"/> is the gate's own.</remarks>
    public async Task DumpCopyRestoreAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default)
    {
        Limit?.Lift();
        await _recorder.EnterAsync(MigrationState.Freezing).ConfigureAwait(false);
        try
        {
            if (LatePages is { } pages)
            {
                await HandOverAndServeAsync(criu, config, lastClientImagesPath, pages).ConfigureAwait(false);
                return;
            }

            var dump = DumpAndPrepareAsync(criu, config, lastClientImagesPath);
            try
            {
                await SeeTreeDieAsync(dump).ConfigureAwait(false);
                await CommitAsync().ConfigureAwait(false);
                await _recorder.EnterIfPossibleAsync(MigrationState.Completed).ConfigureAwait(false);
                // The kernel takes back the dead tree's memory meanwhile. A CRIU that hangs has nothing left to harm
                if (await Task.WhenAny(dump, Task.Delay(LateEndLimit, CancellationToken.None)).ConfigureAwait(false) != dump)
                    criu.Kill();
            }
            finally
            {
                await ((Task)dump).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
        finally
        {
            _tree?.Dispose();
        }
    }

    private async Task DumpAndPrepareAsync(CriuClient criu, PhaulConfig config, string lastClientImagesPath)
    {
        try
        {
            await FinalDump.RunAsync(
                criu, config, lastClientImagesPath,
                images => new CriuNotifications((notification, callOff) => OnNotificationAsync(notification, config, images, callOff)),
                _gate.CallOffToken).ConfigureAwait(false);
        }
        catch (Exception) when (_gate.IsClosed)
        {
            await SettleWithoutCriuAsync().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_gate.Reason is not null)
        {
            throw _gate.Reason;
        }
    }

    private async Task<bool> OnNotificationAsync(CriuNotification notification, PhaulConfig config, string imagesPath, CancellationToken callOff)
    {
        switch (notification.Kind)
        {
            case CriuNotificationKind.PreDump:
                BeginFrozen();
                return true;
            case CriuNotificationKind.PostDump:
                await PrepareDestinationAsync(config, imagesPath, callOff).ConfigureAwait(false);
                return true;
            default:
                return true;
        }
    }

    /// <summary>CRIU freezes next. It does not say when it has, so the frozen time counts from here.</summary>
    private void BeginFrozen()
    {
        _frozen.Start();
        _gate.CallOffAfter(_request.MaxFrozen, FrozenTooLong);
    }

    /// <summary>The tree is frozen and dumped, CRIU waits in post-dump. Returning kills the tree, throwing resumes it.</summary>
    private async Task PrepareDestinationAsync(PhaulConfig config, string imagesPath, CancellationToken callOff)
    {
        await TransferAsync(config, imagesPath, callOff).ConfigureAwait(false);
        RestoreWasRequested = true;
        await _remote.RestoreAsync(callOff).ConfigureAwait(false);
        await CloseGateAsync().ConfigureAwait(false);
    }

    private async Task TransferAsync(PhaulConfig config, string imagesPath, CancellationToken callOff)
    {
        await _recorder.EnterAsync(MigrationState.Transferring).ConfigureAwait(false);
        await WatchFrozenTreeAsync(config.Pid).ConfigureAwait(false);
        RequireAllOf(imagesPath);
        await SendImagesAsync(imagesPath, callOff).ConfigureAwait(false);
    }

    /// <summary>Frozen, the tree cannot fork: this is who has to be dead before it may run elsewhere.</summary>
    private async Task WatchFrozenTreeAsync(int pid)
    {
        var tree = ProcessTree.Capture(pid);
        _tree = TreeWatch.Open(tree);
        // Zombies among its children are no sign that CRIU has begun to kill it.
        _endedBefore = _tree.Exited.Count;
        await _recorder.WriteAsync(tree.ToRecord()).ConfigureAwait(false);
    }

    /// <summary>Who is to be killed is who was dumped: were one overlooked (no descriptor free to read /proc with), it would run on here.</summary>
    private void RequireAllOf(string imagesPath)
    {
        var dumped = Directory.EnumerateFiles(imagesPath, "mm-*.img").Count(); // of each that has memory, zombies not
        if (_tree!.Alive.Count >= dumped)
            return;
        throw new PhaulException(
            PhaulErrorId.DumpFailed, $"CRIU dumped {dumped} processes, and only {_tree.Alive.Count} of them are found in /proc");
    }

    private async Task SendImagesAsync(string imagesPath, CancellationToken callOff)
    {
        var received = await _remote.SendImagesAsync(
            async token => ImageBytes =
                (await ImageSender.SendAsync(imagesPath, _imageChannel, LatePages is null ? null : static _ => true, cancellationToken: token).ConfigureAwait(false)).Bytes,
            callOff).ConfigureAwait(false);
        if ((long)received.Bytes != ImageBytes)
        {
            throw new PhaulException(
                PhaulErrorId.ImageTransferFailed, $"{ImageBytes} bytes of images were sent, but {received.Bytes} arrived");
        }
    }

    /// <summary>The destination is prepared: the last moment at which anything can be called off.</summary>
    private async Task CloseGateAsync()
    {
        // After this record only the death of the tree decides. It is written before the gate closes, so that a full disk
        // still rolls back. Against a crash of this process the page cache is as good as the disk; against a power loss
        // nothing is needed, since a tree of an earlier boot is gone.
        await _recorder.EnterAsync(MigrationState.Committing).ConfigureAwait(false);
        await _recorder.WriteAsync(new CommitIntent(), _request.Durable).ConfigureAwait(false);
        if (!_gate.TryClose())
            throw _gate.Reason ?? new PhaulException(PhaulErrorId.Cancelled, "The migration was called off");
        IsCommitted = true;
        _decided.TrySetResult();
    }

    /// <summary>CRIU failed after the commit was decided. What it did to the tree decides what happens.</summary>
    private async Task SettleWithoutCriuAsync()
    {
        if (await _tree!.WaitAllEndingAsync(DeathLimitWithoutCriu, CancellationToken.None).ConfigureAwait(false))
            return;
        if (_tree.Exited.Count == _endedBefore && !_tree.IsAnyEnding)
        {
            // Not one was killed: CRIU let go of the tree, and it goes on here.
            IsCommitted = false;
            throw new PhaulException(PhaulErrorId.DumpFailed, "CRIU ended before it killed the dumped tree, which was resumed")
            {
                Step = MigrationState.Committing,
            };
        }

        await _recorder.WarnAsync(
            "CRIU ended while it was killing the dumped tree. The rest was killed by Phaul, since a part of a tree is no program; " +
            "those processes may have run for a moment after the dump.").ConfigureAwait(false);
        _tree.Kill();
    }

    /// <summary>
    /// CRIU ends when the kernel has taken back all memory of what it killed, 0.1 s a GiB after nothing of it can run any more: that is
    /// not waited for, unless CRIU fails.
    /// </summary>
    private async Task SeeTreeDieAsync(Task dump)
    {
        if (await Task.WhenAny(dump, _decided.Task).ConfigureAwait(false) == _decided.Task && !HasNetworkFiles)
        {
            using var settled = new CancellationTokenSource();
            var ending = _tree!.WaitAllEndingAsync(DeathLimit, settled.Token);
            await Task.WhenAny(dump, ending).ConfigureAwait(false);
            await settled.CancelAsync().ConfigureAwait(false);
            await ((Task)ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (ending is { IsCompletedSuccessfully: true, Result: true })
            {
                await RememberDeathAsync().ConfigureAwait(false);
                return;
            }
        }

        await dump.ConfigureAwait(false);
        await SeeTreeDieAsync().ConfigureAwait(false);
    }

    private async Task SeeTreeDieAsync()
    {
        // What closes files on file systems that both hosts see comes last of all, and the copy must not be earlier
        var isGone = HasNetworkFiles
            ? await _tree!.WaitAllExitedAsync(DeathLimit, CancellationToken.None).ConfigureAwait(false)
            : await _tree!.WaitAllEndingAsync(DeathLimit, CancellationToken.None).ConfigureAwait(false);
        if (!isGone)
            throw await StillThereAsync(_tree).ConfigureAwait(false);
        await RememberDeathAsync().ConfigureAwait(false);
    }

    private async Task RememberDeathAsync()
    {
        TreeIsGone = true;
        await _recorder.WriteIfPossibleAsync(new TreeGone(LatePages is not null), _request.Durable).ConfigureAwait(false);
    }

    private async Task CommitAsync()
    {
        var running = await _delivery.CommitAsync(_remote, LatePages is not null).ConfigureAwait(false);
        Downtime = _frozen.Elapsed;
        _remote.MarkRunning();
        DestinationPid = running.RootPid;
    }

    // Killed tasks that do not exit are stuck in the kernel (a dead NFS server, say). They cannot run, but nobody can prove that
    // from here, so the destination stays held.
    private async Task<PhaulException> StillThereAsync(TreeWatch tree)
    {
        await _recorder.EnterIfPossibleAsync(
            MigrationState.InDoubt, $"{tree.Alive.Count} killed processes have not exited", durable: true).ConfigureAwait(false);
        return new PhaulException(
            PhaulErrorId.InDoubt,
            $"CRIU killed the tree, but {string.Join(", ", tree.Alive.Select(member => $"{member.Command} ({member.Pid})"))} did not exit")
        {
            Step = MigrationState.Committing,
            // What stayed behind goes with this process
            ProgramState = LatePages is null ? ProgramState.HeldOnDestination : ProgramState.Unknown,
            RecommendedAction = "See why these processes do not exit (/proc/PID/stack). " +
                (LatePages is null ? "The destination holds the program. " : "The program has most probably lost the memory that had not followed. ") +
                "When they are gone: Resolve-PhaulMigration / phaul resolve.",
        };
    }

    private PhaulException FrozenTooLong() => new(
        PhaulErrorId.TimedOut, $"The program was frozen for {_request.MaxFrozen.TotalSeconds:0} s, the limit, before it could be handed over")
    {
        RecommendedAction = "Raise -MaxFrozen / --max-frozen, use a faster link, or a mode that moves memory before the freeze.",
    };
}
