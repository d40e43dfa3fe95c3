// Bringing the source's verdict to the destination, over a new connection if the old one is gone.

using Phaul.Transport;
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
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    private readonly MigrationRequest _request;
    private readonly MigrationRecorder _recorder;

    public CommitDelivery(MigrationRequest request, MigrationRecorder recorder) => (_request, _recorder) = (request, recorder);

    /// <summary>How long a destination that may hold a copy is sought after a rollback. The program runs meanwhile.</summary>
    private TimeSpan RollbackLimit => _request.PeerTimeout + _request.PeerTimeout;

    /// <summary>Has the prepared tree run. Not to be cancelled: there is no way back.</summary>
    /// <exception cref="PhaulException">The destination could not be reached, or could not run it: InDoubt.</exception>
    public async Task<Running> CommitAsync(RemoteDestination remote)
    {
        try
        {
            return await remote.CommitAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is not PhaulException { ErrorId: not PhaulErrorId.ConnectionLost } || !remote.IsConnected)
        {
            await _recorder.WarnAsync($"The link broke during the commit ({exception.Message}); connecting again.").ConfigureAwait(false);
        }
        catch (PhaulException exception)
        {
            throw await InDoubtAsync($"The destination could not run the program that it had prepared: {exception.Message}", exception)
                .ConfigureAwait(false);
        }

        var (answer, failure) = await SettleAsync(Settle.Types.Verdict.Committed, CommitLimit).ConfigureAwait(false);
        return answer?.Running
            ?? throw await InDoubtAsync($"The destination could not be told that it may run the program: {failure?.Message}", failure)
                .ConfigureAwait(false);
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
            "it ends with the server there, and its images can be removed then.").ConfigureAwait(false);
        return false;
    }

    private async Task<(DestinationMessage? Answer, Exception? Failure)> SettleAsync(Settle.Types.Verdict verdict, TimeSpan limit)
    {
        using var end = new CancellationTokenSource(limit);
        var pause = FirstPause;
        Exception? failure = null;
        while (!end.IsCancellationRequested)
        {
            try
            {
                var connection = await PhaulConnector.ConnectAsync(_request.Destination, _request.ConnectTimeout,
                    new ConnectionOptions { PeerTimeout = _request.PeerTimeout }, end.Token)
                    .ConfigureAwait(false);
                await using var remote = new RemoteDestination(connection);
                return (await remote.SettleAsync(_recorder.MigrationId, verdict, end.Token).ConfigureAwait(false), null);
            }
            catch (PhaulException exception) when (IsWorthAnotherTry(exception.ErrorId))
            {
                failure = exception;
            }
            catch (PhaulException exception)
            {
                return (null, exception);
            }
            catch (OperationCanceledException) when (end.IsCancellationRequested)
            {
                break;
            }
            catch (Exception exception)
            {
                // Whatever it was, the program waits: giving up is worse than another try.
                failure = exception;
            }

            await Task.Delay(pause, end.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            pause = TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, LongestPause.Ticks));
        }

        return (null, failure ?? new PhaulException(PhaulErrorId.TimedOut, "the destination did not answer in time"));
    }

    // A host that is being restarted, or a relay on the way to it, can answer with anything. Only the destination's own word
    // on this migration is final. A journal that cannot be written is not: the disk may be full for a while only, or an earlier
    // verdict, whose connection broke, is just being carried out.
    private static bool IsWorthAnotherTry(PhaulErrorId errorId) =>
        errorId is not (PhaulErrorId.InDoubt or PhaulErrorId.RestoreFailed or PhaulErrorId.InvalidRequest);

    private async Task<PhaulException> InDoubtAsync(string message, Exception? cause)
    {
        await _recorder.EnterIfPossibleAsync(MigrationState.InDoubt, message, durable: true).ConfigureAwait(false);
        return new PhaulException(PhaulErrorId.InDoubt, message, cause)
        {
            Step = MigrationState.Committing,
            ProgramState = ProgramState.HeldOnDestination,
            CriuLog = (cause as PhaulException)?.CriuLog ?? [],
            RecommendedAction =
                $"The source tree is gone and its images are on {_request.Destination}. They are kept: do not remove them. Restore " +
                $"migration {_recorder.MigrationId} from them there (criu restore in its last numbered directory); this version has no " +
                "command for that yet.",
        };
    }
}
