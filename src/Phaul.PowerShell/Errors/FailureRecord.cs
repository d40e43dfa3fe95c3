// Turns the engine's exceptions into PowerShell's error records.

using System.Management.Automation;
using System.Text;

namespace Phaul.PowerShell.Errors;

/// <summary>Error records with a stable id, a category, the target, where the program is now, and what to do next.</summary>
internal static class FailureRecord
{
    /// <summary>The record of a failure of the engine.</summary>
    public static ErrorRecord From(PhaulException failure, object? target) =>
        new(failure, failure.ErrorId.ToString(), CategoryOf(failure.ErrorId), target)
        {
            ErrorDetails = new ErrorDetails(MessageOf(failure, target)) { RecommendedAction = RecommendedActionOf(failure) },
        };

    /// <summary>The record of whatever went wrong.</summary>
    public static ErrorRecord From(Exception failure, object? target) => failure switch
    {
        PhaulException known => From(known, target),
        OperationCanceledException => From(new PhaulException(PhaulErrorId.Cancelled, "It was stopped.", failure), target),
        _ => From(
            new PhaulException(PhaulErrorId.InternalError, failure.Message, failure) { ProgramState = ProgramState.Unknown }, target),
    };

    /// <summary>The record of a parameter that cannot be right.</summary>
    public static ErrorRecord InvalidParameter(
        string id, string message, string recommendedAction, object? target, Exception? cause = null) =>
        new(new PSArgumentException(message, cause), id, ErrorCategory.InvalidArgument, target)
        {
            ErrorDetails = new ErrorDetails(message) { RecommendedAction = recommendedAction },
        };

    private static string MessageOf(PhaulException failure, object? target)
    {
        var text = new StringBuilder();
        if (target is Migrating.MigrationTarget migration)
        {
            text.Append(failure.ErrorId == PhaulErrorId.ProgramLost ? "Lost while migrating " : "Cannot migrate ").Append(migration).Append(" to ").Append(migration.Destination).Append(": ");
        }

        text.Append(failure.Message.TrimEnd('.'));
        if (failure.Host is not null || failure.Step is not null)
        {
            text.Append(" (");
            if (failure.Step is { } step)
            {
                text.Append("while ").Append(step);
            }

            if (failure.Host is { } host)
            {
                text.Append(failure.Step is null ? "on " : " on ").Append(host);
            }

            text.Append(')');
        }

        text.Append('.');

        if (target is Migrating.MigrationTarget)
        {
            text.Append(' ').Append(Sentence(failure.ProgramState));
        }

        foreach (string line in failure.CriuLog.TakeLast(3))
        {
            text.AppendLine().Append("  criu: ").Append(line);
        }

        return text.ToString();
    }

    private static string Sentence(ProgramState state) => state switch
    {
        ProgramState.RunningOnSource => "The program runs on the source, as if nothing had been.",
        ProgramState.RunningOnDestination => "The program runs on the destination.",
        ProgramState.FrozenOnSource => "The program is frozen on the source.",
        ProgramState.HeldOnDestination => "The program is gone from the source and held, ready to run, on the destination.",
        ProgramState.Gone => "There is no such program any more.",
        _ => "It cannot be known from here where the program is.",
    };

    private static string RecommendedActionOf(PhaulException failure) => failure.RecommendedAction ?? failure.ErrorId switch
    {
        PhaulErrorId.InvalidRequest => "Correct the parameters; see Get-Help for what they take.",
        PhaulErrorId.ProcessNotFound => "Look for the process with Get-Process; it may have ended, or have another pid.",
        PhaulErrorId.ConnectionFailed =>
            "See that Start-PhaulServer or `phaul serve` runs on the destination and that its port can be reached.",
        PhaulErrorId.AuthenticationFailed => "Compare fingerprints on both hosts; see Get-Help about_Phaul_Trust.",
        PhaulErrorId.ProtocolError => "Use the same version of Phaul on both hosts.",
        PhaulErrorId.ConnectionLost => "Look at the network between the hosts and at the destination, then migrate again.",
        PhaulErrorId.CheckFailed => "Run Test-PhaulMigration with the same parameters and follow its remedies.",
        PhaulErrorId.CriuNotFound => "Install CRIU, or name it with -CriuPath.",
        PhaulErrorId.DumpFailed =>
            "Read CRIU's lines above: often one of -FileLocks, -TcpEstablished, -ExternalUnixSockets, -ShellJob or -LinkRemap is needed.",
        PhaulErrorId.RestoreFailed => "Read CRIU's lines above; files, pids and limits on the destination are the usual reasons.",
        PhaulErrorId.EngineFailed => "Look at what the script block of -DumpCopyRestore threw; images and logs are kept on both hosts.",
        PhaulErrorId.TimedOut => "Migrate again; give it longer with -MaxFrozen if the tree is large.",
        PhaulErrorId.Cancelled => "Nothing needs doing; migrate again when you want to.",
        PhaulErrorId.InDoubt => "Settle it with Resolve-PhaulMigration before you start the program anywhere; see docs/recovery.md.",
        PhaulErrorId.ServerBusy => "Wait for the other migrations, or raise -MaxMigrations of the server.",
        _ => "Run it again with -Verbose -Debug; the logs are in the directory that Get-PhaulMigration shows.",
    };

    private static ErrorCategory CategoryOf(PhaulErrorId id) => id switch
    {
        PhaulErrorId.InvalidRequest => ErrorCategory.InvalidArgument,
        PhaulErrorId.ProcessNotFound => ErrorCategory.ObjectNotFound,
        PhaulErrorId.ConnectionFailed or PhaulErrorId.ConnectionLost => ErrorCategory.ConnectionError,
        PhaulErrorId.AuthenticationFailed => ErrorCategory.AuthenticationError,
        PhaulErrorId.ProtocolError => ErrorCategory.ProtocolError,
        PhaulErrorId.CheckFailed => ErrorCategory.InvalidOperation,
        PhaulErrorId.CriuNotFound => ErrorCategory.NotInstalled,
        PhaulErrorId.DumpFailed or PhaulErrorId.RestoreFailed or PhaulErrorId.EngineFailed => ErrorCategory.InvalidOperation,
        PhaulErrorId.ImageTransferFailed or PhaulErrorId.PageTransferFailed => ErrorCategory.WriteError,
        PhaulErrorId.TimedOut => ErrorCategory.OperationTimeout,
        PhaulErrorId.Cancelled => ErrorCategory.OperationStopped,
        PhaulErrorId.InDoubt => ErrorCategory.InvalidResult,
        PhaulErrorId.JournalFailed => ErrorCategory.ReadError,
        PhaulErrorId.ServerBusy => ErrorCategory.ResourceBusy,
        PhaulErrorId.ProgramLost => ErrorCategory.ResourceUnavailable,
        _ => ErrorCategory.NotSpecified,
    };
}
