// The exit codes of `phaul`: what an operator's script may rely on.

namespace Phaul.Cli;

/// <summary>Exit codes, the same for all commands.</summary>
internal enum ExitCode
{
    Done = 0,
    InternalError = 1,
    BadUsage = 2,
    Refused = 3,
    RolledBack = 4,
    InDoubt = 5,
    NotConnected = 6,
    Lost = 7,
    Cancelled = 130,
}

/// <summary>Which exit code stands for which failure, and what they mean.</summary>
internal static class ExitCodes
{
    /// <summary>The meaning of each code, for --help.</summary>
    public static IReadOnlyList<(ExitCode Code, string Meaning)> Meanings { get; } =
    [
        (ExitCode.Done, "done"),
        (ExitCode.InternalError, "a mistake in phaul itself, or something that the other codes do not cover"),
        (ExitCode.BadUsage, "bad usage: nothing was started"),
        (ExitCode.Refused, "refused by a check: the program runs on the source, untouched"),
        (ExitCode.RolledBack, "failed and rolled back: the program runs on the source"),
        (ExitCode.InDoubt, "in doubt: it cannot be known from here where the program is; it has to be resolved"),
        (ExitCode.NotConnected, "cannot connect or authenticate: the program runs on the source, untouched"),
        (ExitCode.Lost, "the program has ended, or was lost (only after the commit of a post-copy or hybrid migration)"),
        (ExitCode.Cancelled, "cancelled (Ctrl+C, SIGTERM) and rolled back: the program runs on the source"),
    ];

    /// <summary>The code for an error of the engine. Where the program is matters more than what went wrong.</summary>
    public static ExitCode For(PhaulException error) => error.ErrorId switch
    {
        PhaulErrorId.InvalidRequest => ExitCode.BadUsage,
        PhaulErrorId.InDoubt => ExitCode.InDoubt,
        PhaulErrorId.ProgramLost => ExitCode.Lost,
        PhaulErrorId.InternalError when error.ProgramState == ProgramState.RunningOnSource => ExitCode.InternalError,
        _ => error.ProgramState switch
        {
            ProgramState.RunningOnDestination => ExitCode.InternalError,
            ProgramState.FrozenOnSource or ProgramState.HeldOnDestination or ProgramState.Unknown => ExitCode.InDoubt,
            ProgramState.Gone when !IsUntouched(error) => ExitCode.Lost,
            _ => ForRunningOnSource(error),
        },
    };

    private static ExitCode ForRunningOnSource(PhaulException error) => error.ErrorId switch
    {
        PhaulErrorId.Cancelled => ExitCode.Cancelled,
        PhaulErrorId.ConnectionFailed or PhaulErrorId.AuthenticationFailed => ExitCode.NotConnected,
        PhaulErrorId.ProtocolError or PhaulErrorId.ConnectionLost or PhaulErrorId.TimedOut when IsUntouched(error) => ExitCode.NotConnected,
        _ => IsUntouched(error) ? ExitCode.Refused : ExitCode.RolledBack,
    };

    private static bool IsUntouched(PhaulException error) => error.Step is null or MigrationState.Connecting or MigrationState.Checking;
}
