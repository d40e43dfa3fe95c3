// The hand-over of a program whose memory follows (PostCopy, Hybrid): the same steps, but that it is Phaul who kills the tree, while
// CRIU serves its pages. Read with "The hand-over" in docs/architecture.md.

using Phaul.Criu;
using Phaul.Images.Pages;
using Phaul.Journal;

namespace Phaul;

internal sealed partial class Handover
{
    private static readonly TimeSpan LateEndLimit = TimeSpan.FromMinutes(1);

    /// <summary>
    /// Until the tree is killed everything can be called off: whatever ends CRIU's page server has CRIU resume the tree. Killed frozen,
    /// it has not run an instruction since the dump, and CRIU's pipes keep its pages.
    /// </summary>
    private async Task HandOverAndServeAsync(CriuClient criu, PhaulConfig config, string lastClientImagesPath, LatePages pages)
    {
        await pages.TakeOverAsync().ConfigureAwait(false);
        if (lastClientImagesPath.Length > 0)
            StandInPagemaps.Write(lastClientImagesPath, _remote.Owners);
        var serves = new TaskCompletionSource<string>(TaskCreationOptions.RunContinuationsAsynchronously);
        using var callOff = CancellationTokenSource.CreateLinkedTokenSource(_gate.CallOffToken);
        var dump = FinalDump.RunAsync(
            criu, config, lastClientImagesPath,
            images => new CriuNotifications((notification, token) => OnLateNotificationAsync(notification, config, images, pages, serves, token)),
            _gate.CallOffToken, memoryFollows: true);
        // Nobody prepares for a CRIU that has gone
        var end = CancelWhenEndedAsync(dump, callOff);
        await using var cut = _gate.CallOffToken.Register(pages.Cut).ConfigureAwait(false);
        try
        {
            await PrepareAndServeAsync(dump, serves.Task, pages, callOff.Token).ConfigureAwait(false);
            KillFrozenTree(dump, pages);
            await SeeTreeDieAsync().ConfigureAwait(false);
            await CommitAsync().ConfigureAwait(false);
            if (await _delivery.AwaitMemoryAsync(_remote).ConfigureAwait(false))
                MemoryCompleteAfter = _frozen.Elapsed - Downtime;
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            await _recorder.EnterIfPossibleAsync(MigrationState.Completed).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_gate.Reason is not null)
        {
            throw _gate.Reason;
        }
        catch (Exception) when (dump.IsFaulted && !IsCommitted)
        {
            await dump.ConfigureAwait(false);
            throw;
        }
        finally
        {
            await pages.DisposeAsync().ConfigureAwait(false);
            // Asked for nothing any more it ends within moments; one that hangs would keep the tree frozen
            if (await Task.WhenAny(end, Task.Delay(LateEndLimit)).ConfigureAwait(false) != end)
                criu.Kill();
            await end.ConfigureAwait(false);
        }
    }

    private async Task<bool> OnLateNotificationAsync(
        CriuNotification notification, PhaulConfig config, string imagesPath, LatePages pages, TaskCompletionSource<string> serves,
        CancellationToken callOff)
    {
        switch (notification.Kind)
        {
            case CriuNotificationKind.PreDump:
                BeginFrozen();
                return true;
            case CriuNotificationKind.PostDump:
                try
                {
                    await TransferAsync(config, imagesPath, callOff).ConfigureAwait(false);
                    return true;
                }
                catch
                {
                    // Refused here, CRIU serves all the same, until its socket is closed
                    pages.Cut();
                    throw;
                }

            case CriuNotificationKind.StatusReady:
                // From here on only CRIU has its end: when it dies, the other one tells
                config.LateSocket?.Dispose();
                serves.TrySetResult(imagesPath);
                return true;
            default:
                return true;
        }
    }

    /// <summary>CRIU serves pages now, and the tree is still frozen: the destination restores, and asks for the pages that a restore touches.</summary>
    private async Task PrepareAndServeAsync(Task dump, Task<string> serves, LatePages pages, CancellationToken callOff)
    {
        if (await Task.WhenAny(serves, dump).ConfigureAwait(false) == dump)
        {
            await dump.ConfigureAwait(false);
            throw new PhaulException(PhaulErrorId.DumpFailed, "CRIU ended without having served any memory");
        }

        pages.Start(await serves.ConfigureAwait(false));
        RestoreWasRequested = true;
        await _remote.RestoreAsync(callOff).ConfigureAwait(false);
        _tree!.RequireRightToKill();
        RequireServing(dump, pages);
        await CloseGateAsync().ConfigureAwait(false);
    }

    /// <summary>The commit. A CRIU that has ended has resumed the tree, and what then ran must not be killed.</summary>
    private void KillFrozenTree(Task dump, LatePages pages)
    {
        try
        {
            RequireServing(dump, pages);
        }
        catch (PhaulException)
        {
            IsCommitted = false;
            throw;
        }

        _tree!.Kill();
    }

    /// <summary>However CRIU ends, its socket is closed before it lets the tree go.</summary>
    private static void RequireServing(Task dump, LatePages pages)
    {
        if (dump.IsCompleted || !pages.IsServing)
        {
            throw new PhaulException(PhaulErrorId.DumpFailed, "CRIU stopped serving the memory of the frozen tree, which is resumed")
            {
                Step = MigrationState.Committing,
            };
        }
    }

    private static async Task CancelWhenEndedAsync(Task dump, CancellationTokenSource callOff)
    {
        await dump.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await callOff.CancelAsync().ConfigureAwait(false);
    }
}
