// Turning whatever went wrong on the source into the error that an operator reads.

using Phaul.Criu;
using Phaul.Engines;
using Phaul.Native;
using Phaul.Wire;

namespace Phaul;

/// <summary>Explains failures.</summary>
internal static class SourceFailure
{
    public static PhaulException Explain(
        Exception exception, MigrationState step, MigrationRequest request, CancellationToken cancellationToken) => exception switch
        {
            PhaulException phaul => phaul,
            CriuException criu => new PhaulException(FailureOnWire.ErrorIdOf(criu, MigrationSide.Source, step), criu.Message, criu)
            {
                CriuLog = criu.LogTail,
                Step = step,
                RecommendedAction = criu.Kind == CriuFailure.NotFound
                    ? $"Install criu on this host, or name it with -CriuPath / --criu (now: {request.CriuPath})."
                    : "Read CRIU's lines; Test-PhaulMigration or phaul check names the option that a program needs, where there is one.",
            },
            OperationCanceledException when cancellationToken.IsCancellationRequested =>
                new PhaulException(PhaulErrorId.Cancelled, "The migration was cancelled", exception),
            OperationCanceledException or TimeoutException => new PhaulException(PhaulErrorId.TimedOut, $"A wait took too long: {exception.Message}", exception),
            IOException or UnauthorizedAccessException => new PhaulException(PhaulErrorId.ImageTransferFailed, exception.Message, exception),
            _ => new PhaulException(PhaulErrorId.InternalError, $"{exception.GetType().Name}: {exception.Message}", exception)
            {
                RecommendedAction = "This is a mistake in Phaul; please report it with the journal of this migration.",
            },
        };

    /// <summary>Looks whether the program is there, rather than believing that it must be.</summary>
    public static ProgramState StateOf(ProcessTree tree)
    {
        try
        {
            using var watch = TreeWatch.Open(tree);
            return StateOf(watch, tree);
        }
        catch (NativeException)
        {
            // Out of descriptors, say: that must not take the place of the error that is being explained.
            return ProgramState.Unknown;
        }
    }

    private static ProgramState StateOf(TreeWatch watch, ProcessTree tree)
    {
        return watch.Alive.Any(member => member.Pid == tree.RootPid) ? ProgramState.RunningOnSource : ProgramState.Gone;
    }
}
