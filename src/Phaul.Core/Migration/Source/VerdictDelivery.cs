// Telling a destination over a new connection how a migration ended, for as long as it takes.

using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>Connects again and again until the destination has answered.</summary>
/// <param name="Destination">Where it is.</param>
/// <param name="ConnectTimeout">For each connection.</param>
/// <param name="PeerTimeout">A destination that is silent for so long is taken for lost.</param>
internal sealed record VerdictDelivery(MigrationEndpoint Destination, TimeSpan ConnectTimeout, TimeSpan PeerTimeout)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    /// <summary>Delivers. One of answer and failure is not null.</summary>
    public async Task<(DestinationMessage? Answer, Exception? Failure)> SettleAsync(
        string migrationId, Settle.Types.Verdict verdict, TimeSpan limit, CancellationToken cancellationToken = default)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        end.CancelAfter(limit);
        var pause = FirstPause;
        Exception? failure = null;
        while (!end.IsCancellationRequested)
        {
            try
            {
                var connection = await PhaulConnector.ConnectAsync(
                    Destination, ConnectTimeout, new ConnectionOptions { PeerTimeout = PeerTimeout }, end.Token).ConfigureAwait(false);
                await using var remote = new RemoteDestination(connection);
                return (await remote.SettleAsync(migrationId, verdict, end.Token).ConfigureAwait(false), null);
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

        cancellationToken.ThrowIfCancellationRequested();
        return (null, failure ?? new PhaulException(PhaulErrorId.TimedOut, "the destination did not answer in time"));
    }

    // A host that is being restarted, or a relay on the way to it, can answer with anything. Only the destination's own word
    // on this migration is final. A journal that cannot be written is not: the disk may be full for a while only, or an earlier
    // verdict, whose connection broke, is just being carried out.
    public static bool IsWorthAnotherTry(PhaulErrorId errorId) =>
        errorId is not (PhaulErrorId.InDoubt or PhaulErrorId.ProgramLost or PhaulErrorId.RestoreFailed or PhaulErrorId.InvalidRequest);
}
