// Bringing the source's verdict to the destination, over a new connection if the old one is gone.

using System.Diagnostics;
using Phaul.Journal;
using Phaul.Wire;

namespace Phaul;

/// <summary>
/// Once the source tree is dead, the destination must learn it, whatever happens to the link; once the source tree runs
/// again, a destination that may hold a copy must learn that, too.
/// </summary>
internal sealed class CommitDelivery
{
    // The program runs nowhere until the commit arrives, so it is tried for long and often.
    private static readonly TimeSpan CommitLimit = TimeSpan.FromMinutes(10);

    // Far more than resuming takes, also if the tree has to be restored again: a destination that says nothing for so long
    // although its connection lives is stuck, and is asked over another one.
    private static readonly TimeSpan AnswerLimit = TimeSpan.FromMinutes(3);

    private static readonly TimeSpan SameLinkPause = TimeSpan.FromSeconds(1);

    private readonly MigrationRequest _request;
    private readonly MigrationRecorder _recorder;

    public CommitDelivery(MigrationRequest request, MigrationRecorder recorder) => (_request, _recorder) = (request, recorder);

    /// <summary>How long a destination that may hold a copy is sought after a rollback. The program runs meanwhile.</summary>
    private TimeSpan RollbackLimit => _request.PeerTimeout + _request.PeerTimeout;

    /// <summary>Has the prepared tree run. Not to be cancelled: there is no way back.</summary>
    /// <exception cref="PhaulException">The destination could not be reached, or could not run it: InDoubt.</exception>
    /// <param name="remote">The destination.</param>
    /// <param name="memoryFollows">
    /// Memory follows over this connection: to ask over another one would cost the program, so that is done only when it is gone.
    /// </param>
    public async Task<Running> CommitAsync(RemoteDestination remote, bool memoryFollows = false)
    {
        var began = Stopwatch.StartNew();
        do
        {
            if (await AskAsync(remote, memoryFollows).ConfigureAwait(false) is { } running)
                return running;
            if (memoryFollows && remote.IsConnected)
                await Task.Delay(SameLinkPause).ConfigureAwait(false);
        }
        while (memoryFollows && remote.IsConnected && began.Elapsed < CommitLimit);

        return await SettleCommittedAsync("The destination could not be told that it may run the program", memoryFollows).ConfigureAwait(false);
    }

    /// <summary>The same over other connections, as long as it takes.</summary>
    /// <exception cref="PhaulException">ProgramLost; InDoubt, with what could not be done.</exception>
    private async Task<Running> SettleCommittedAsync(string otherwise, bool memoryFollows)
    {
        var (answer, failure) = await SettleAsync(Settle.Types.Verdict.Committed, CommitLimit).ConfigureAwait(false);
        if (answer?.Running is { } running)
            return running;
        throw failure is PhaulException { ErrorId: PhaulErrorId.ProgramLost } lost
            ? lost
            : await InDoubtAsync($"{otherwise}: {failure?.Message}", failure, memoryFollows).ConfigureAwait(false);
    }

    /// <summary>Comes back when the program has all its memory there. While the connection lives it is only waited; a lost one is asked over another.</summary>
    /// <returns>Whether that was heard when it happened, and not later over another connection.</returns>
    /// <exception cref="PhaulException">ProgramLost: it never will. InDoubt: the destination could not be reached.</exception>
    public async Task<bool> AwaitMemoryAsync(RemoteDestination remote)
    {
        Stopwatch? failing = null;
        while (true)
        {
            try
            {
                await remote.AwaitMemoryAsync(CancellationToken.None).ConfigureAwait(false);
                return true;
            }
            catch (PhaulException exception) when (exception.ErrorId != PhaulErrorId.ProgramLost && remote.IsConnected)
            {
                // To ask over another connection would cost the program
                if (failing is null)
                    await _recorder.WarnAsync($"The destination cannot say whether all memory has arrived ({exception.Message}); asking again.").ConfigureAwait(false);
                failing ??= Stopwatch.StartNew();
                if (failing.Elapsed > CommitLimit)
                {
                    throw await InDoubtAsync($"The destination could not say whether all memory had arrived: {exception.Message}", exception, memoryFollows: true)
                        .ConfigureAwait(false);
                }

                await Task.Delay(SameLinkPause).ConfigureAwait(false);
            }
            catch (PhaulException exception) when (exception.ErrorId != PhaulErrorId.ProgramLost)
            {
                await _recorder.WarnAsync(
                    $"The connection was lost while memory followed ({exception.Message}): the program is lost unless it had all of it. " +
                    $"{_request.Destination} is asked over another connection, until {DateTime.Now + CommitLimit:HH:mm}.").ConfigureAwait(false);
                break;
            }
        }

        await SettleCommittedAsync("Whether all memory arrived could not be asked", memoryFollows: true).ConfigureAwait(false);
        return false;
    }

    /// <summary>Has the destination discard what it holds. The program runs here; failing is a warning, not an error.</summary>
    /// <returns>Whether the destination has said that it holds nothing any more.</returns>
    public async Task<bool> AbortAsync(RemoteDestination remote, bool mayHoldTree, string reason)
    {
        if (remote.IsConnected)
        {
            try
            {
                using var limit = new CancellationTokenSource(_request.PeerTimeout);
                await remote.AbortAsync(reason, limit.Token).ConfigureAwait(false);
                return true;
            }
            catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
            {
                _recorder.Story($"The destination did not answer to the abort: {exception.Message}");
            }
        }

        // Without a restored tree the destination discards on its own when the connection ends.
        if (!mayHoldTree)
            return true;
        var (answer, failure) = await SettleAsync(Settle.Types.Verdict.RolledBack, RollbackLimit).ConfigureAwait(false);
        if (answer is not null)
            return true;
        await _recorder.WarnAsync(
            $"The destination could not be told to discard its copy ({failure?.Message}). It holds it frozen and will not run it; " +
            "it holds it until it is told: Resolve-PhaulMigration / phaul resolve on this host.").ConfigureAwait(false);
        await _recorder.WriteIfPossibleAsync(new PeerUntold()).ConfigureAwait(false);
        return false;
    }

    /// <summary>An engine of the source's own has restored the program: the destination is done with it. Failing is no error.</summary>
    public async Task ReleaseAsync(RemoteDestination remote)
    {
        try
        {
            using var limit = new CancellationTokenSource(_request.PeerTimeout);
            await remote.ReleaseAsync(limit.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
        {
            _recorder.Story($"The destination did not take leave: {exception.Message}");
        }
    }

    /// <summary>Over the migration's own connection; null: not confirmed, and to be asked again over another one.</summary>
    private async Task<Running?> AskAsync(RemoteDestination remote, bool memoryFollows)
    {
        var answerLimit = memoryFollows ? CommitLimit : AnswerLimit;
        string Again() => memoryFollows && remote.IsConnected ? "asking again" : "asking again over another connection";
        try
        {
            using var limit = new CancellationTokenSource(answerLimit);
            return await remote.CommitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException)
        {
            await _recorder.WarnAsync(
                $"The destination has not answered to the commit for {answerLimit.TotalMinutes:0} minutes; {Again()}.").ConfigureAwait(false);
            return null;
        }
        catch (Exception exception)
            when (exception is not PhaulException answered || VerdictDelivery.IsWorthAnotherTry(answered.ErrorId) || !remote.IsConnected)
        {
            // A link that broke, or a disk that is full for a while: the program waits, and nothing is lost by asking again.
            await _recorder.WarnAsync($"The commit was not confirmed ({exception.Message}); {Again()}.").ConfigureAwait(false);
            return null;
        }
        catch (PhaulException exception) when (exception.ErrorId != PhaulErrorId.ProgramLost)
        {
            throw await InDoubtAsync($"The destination could not run the program that it had prepared: {exception.Message}", exception, memoryFollows)
                .ConfigureAwait(false);
        }
    }

    private Task<(DestinationMessage? Answer, Exception? Failure)> SettleAsync(Settle.Types.Verdict verdict, TimeSpan limit) =>
        new VerdictDelivery(_request.Destination, _request.ConnectTimeout, _request.PeerTimeout).SettleAsync(_recorder.MigrationId, verdict, limit);

    private async Task<PhaulException> InDoubtAsync(string message, Exception? cause, bool memoryFollows = false)
    {
        await _recorder.EnterIfPossibleAsync(MigrationState.InDoubt, message, durable: true).ConfigureAwait(false);
        return new PhaulException(PhaulErrorId.InDoubt, message, cause)
        {
            Step = MigrationState.Committing,
            // What stayed behind went with the connection
            ProgramState = memoryFollows ? ProgramState.Unknown : ProgramState.HeldOnDestination,
            CriuLog = (cause as PhaulException)?.CriuLog ?? [],
            RecommendedAction = memoryFollows
                ? $"The source tree is gone. If the program ran on {_request.Destination} and had all its memory, it runs there still; otherwise it is lost, and " +
                  $"has to be started anew. When that host can be reached, here: Resolve-PhaulMigration / phaul resolve {_recorder.MigrationId}."
                : $"The source tree is gone, and its memory is held, or in images, on {_request.Destination}: do not remove them. When that host can be " +
                $"reached, here: Resolve-PhaulMigration / phaul resolve {_recorder.MigrationId}.",
        };
    }
}
