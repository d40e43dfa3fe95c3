// Errors across the wire: what failed on the destination is thrown on the source as if it had failed there, host named.

using Phaul.Criu;

namespace Phaul.Wire;

/// <summary>Translates errors.</summary>
internal static class FailureOnWire
{
    private const int MaxLines = 20;
    private const int MaxLine = 500;

    public static Failure ToMessage(Exception exception, string host, MigrationState step)
    {
        var failure = new Failure { Host = host, Step = step.ToString(), Message = Shorten(exception.Message) };
        switch (exception)
        {
            case PhaulException phaul:
                failure.ErrorId = phaul.ErrorId.ToString();
                failure.RecommendedAction = phaul.RecommendedAction ?? "";
                failure.CriuLog.AddRange(phaul.CriuLog.Take(MaxLines).Select(Shorten));
                break;
            case CriuException criu:
                failure.ErrorId = ErrorIdOf(criu, MigrationSide.Destination, step).ToString();
                failure.CriuLog.AddRange(criu.LogTail.Take(MaxLines).Select(Shorten));
                break;
            default:
                failure.ErrorId = nameof(PhaulErrorId.InternalError);
                failure.Message = Shorten($"{exception.GetType().Name}: {exception.Message}");
                break;
        }

        return failure;
    }

    public static PhaulException ToException(Failure failure)
    {
        var id = Enum.TryParse<PhaulErrorId>(failure.ErrorId, out var parsed) ? parsed : PhaulErrorId.InternalError;
        return new PhaulException(id, Clean(failure.Message))
        {
            Host = Clean(failure.Host),
            Step = Enum.TryParse<MigrationState>(failure.Step, out var step) ? step : null,
            CriuLog = failure.CriuLog.Take(MaxLines).Select(Clean).ToArray(),
            RecommendedAction = failure.RecommendedAction.Length > 0 ? Clean(failure.RecommendedAction) : null,
        };
    }

    /// <summary>The identity of CRIU's failure depends on what it was asked for.</summary>
    public static PhaulErrorId ErrorIdOf(CriuException exception, MigrationSide side, MigrationState step) => exception.Kind == CriuFailure.NotFound
        ? PhaulErrorId.CriuNotFound
        : step switch
        {
            MigrationState.Restoring or MigrationState.Prepared => PhaulErrorId.RestoreFailed,
            MigrationState.Committing or MigrationState.InDoubt when side == MigrationSide.Destination => PhaulErrorId.RestoreFailed,
            MigrationState.Receiving or MigrationState.Accepted => PhaulErrorId.PageTransferFailed,
            _ => PhaulErrorId.DumpFailed,
        };

    private static string Shorten(string text) => text.Length <= MaxLine ? text : text[..MaxLine] + "…";

    // It came from another host and goes to a terminal.
    private static string Clean(string text) => string.Concat(Shorten(text).Select(c => char.IsControl(c) && c != '\t' ? ' ' : c));
}
