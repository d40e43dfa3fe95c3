// Tells what became of a request: its answer, or the exception that says all that is known.
using System.Runtime.ExceptionServices;
using Phaul.Criu.Rpc;

namespace Phaul.Criu;

internal static class CriuAnswer
{
    /// <summary>Runs a request and returns its successful answer.</summary>
    /// <exception cref="CriuException">There is none.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and CRIU has undone it.</exception>
    public static async Task<CriuResponse> OfAsync(
        CriuSession session,
        CriuRequest request,
        ICriuNotifications? handler,
        CriuClientOptions options,
        CancellationToken cancellationToken)
    {
        var exchange = new CriuExchange(session, request, handler, options);
        CriuResponse response;
        try
        {
            response = await exchange.RunAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (SessionFailureException failure)
        {
            // A hung CRIU is ended only after its log was read, so that the last lines are those of the hang.
            var inner = exchange.HandlerFailure ?? failure.InnerException;
            throw new CriuException(
                failure.Kind, request.Type, failure.Message, null, null, Log(session, request), failure.ExitStatus, inner)
            {
                IsPastReturn = exchange.IsPastReturn,
            };
        }

        if (!Matches(request.Type, response))
            throw new CriuException(CriuFailure.Garbage, request.Type, $"answered {response.Type}", logTail: Log(session, request));
        if (exchange.HandlerFailure is { } failed && !(failed is OperationCanceledException && response.Success))
        {
            if (failed is OperationCanceledException) cancellationToken.ThrowIfCancellationRequested();
            ExceptionDispatchInfo.Throw(failed);
        }
        if (response.Success) return response;
        if (exchange.IsCancelled) cancellationToken.ThrowIfCancellationRequested();
        throw new CriuException(
            exchange.HasTimedOut ? CriuFailure.Hung : CriuFailure.Refused,
            request.Type,
            exchange.HasTimedOut ? "took too long and was given up" : exchange.IsRefusedByHandler ? "was refused by us" : "failed",
            response.HasCrErrno ? response.CrErrno : null,
            response.HasCrErrmsg && !CriuLog.IsHarmless(response.CrErrmsg) ? response.CrErrmsg : null,
            Log(session, request))
        { IsPastReturn = exchange.IsPastReturn };
    }

    // CRIU answers for a page server child as for any page server, and EMPTY to what it could not even begin.
    private static bool Matches(CriuRequestKind asked, CriuResponse response) =>
        response.Type == asked
        || (asked == CriuRequestKind.PageServerChild && response.Type == CriuRequestKind.PageServer)
        || (response.Type == CriuRequestKind.Empty && !response.Success);

    private static IReadOnlyList<string> Log(CriuSession session, CriuRequest request) =>
        CriuLog.ReadTail(request.Opts) is { Count: > 0 } lines ? lines : CriuLog.Select(session.ErrorOutput);
}
