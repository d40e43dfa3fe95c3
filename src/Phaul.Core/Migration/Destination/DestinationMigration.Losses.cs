// What a destination loses while it serves a migration, who is told, and how it gets it back.

using Phaul.Engines;
using Phaul.Journal;
using Phaul.Wire;

namespace Phaul;

internal sealed partial class DestinationMigration
{
    private static readonly TimeSpan TellLimit = TimeSpan.FromSeconds(10);

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

    /// <summary>
    /// The rest of its memory was on the source, and will not come: nobody can make the program whole again. It is ended, rather than
    /// left standing where it lacks some, and what it lacks is written down.
    /// </summary>
    private async Task LoseAsync(HeldTree? held, Exception cause)
    {
        await _recorder.WriteIfPossibleAsync(new MemoryLost()).ConfigureAwait(false);
        if (held is not null && !await held.DiscardAsync().ConfigureAwait(false))
            await _recorder.WarnAsync("Processes of the lost tree were killed but have not exited yet.").ConfigureAwait(false);
        // Null: it was lost before, and could not be restored again: it lacks all that was to follow
        var missing = held is null ? "What was to follow of its memory had not arrived" : await MissingAsync(held).ConfigureAwait(false);
        await _recorder.EnterIfPossibleAsync(MigrationState.Lost, $"{cause.Message.TrimEnd('.')}. {missing}", durable: true).ConfigureAwait(false);
    }

    private async Task<string> MissingAsync(HeldTree held)
    {
        var lacking = await held.LackingAsync().ConfigureAwait(false);
        var file = MissingMemory.TryWrite(_workDirectory.Path, lacking);
        var missing = lacking.Sum(part => (long)(part.Range.End - part.Range.Start));
        return $"{(missing + (1 << 20) - 1) >> 20} MiB of its memory had not arrived{(file is null ? "" : $"; which is in {file}")}";
    }

    private PhaulException Lost() => DestinationRecovery.Lost(_recorder.States[^1].Reason ?? "its memory did not arrive");

    private async Task TellMemoryIsCompleteAsync()
    {
        try
        {
            using var limit = new CancellationTokenSource(TellLimit);
            await RequireReception().EndRemoteAsync(limit.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
        {
            _recorder.Story($"The source was not told that all memory is here: {exception.Message}");
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
        if (_reception?.MemoryFault is { } fault)
            throw fault;
        await _recorder.WarnAsync($"{why}. It is restored again from its images.").ConfigureAwait(false);
        await lost.DiscardAsync().ConfigureAwait(false);
        // Whatever becomes of the restore, nobody asks that one any more
        _held = null;
        await lost.DisposeAsync().ConfigureAwait(false);
        // A CRIU that was killed in the middle of an earlier attempt has left tasks that sleep on, with the program's pids
        await AbandonedTasks.KillAsync([.. lost.Tree.Members.Select(member => member.Pid)], _server.CriuPath).ConfigureAwait(false);
        var reception = RequireReception();
        _held = await reception.RestoreAgainAsync(CancellationToken.None).ConfigureAwait(false);
        await _recorder.WriteAsync(PreparedRecord(_held, reception.LastImagesDirectory), _begin.Durable).ConfigureAwait(false);
        if (_held.NeedsThisProcess)
            await _recorder.WriteAsync(new MemoryServed(reception.MemoryFollows)).ConfigureAwait(false);
        return _held;
    }
}
