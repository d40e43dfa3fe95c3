// What a destination loses while it serves a migration, who is told, and how it gets it back.

using Phaul.Journal;
using Phaul.Wire;

namespace Phaul;

internal sealed partial class DestinationMigration
{
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
}
