// What an operator is told of a migration that is settled on its destination.

using Phaul.Journal;

namespace Phaul;

/// <summary>Settles the destination's side from its journal, and puts into words what was found and what remains.</summary>
internal static class DestinationResolution
{
    /// <exception cref="PhaulException">There is no such migration, the word contradicts it, or it could not be carried out.</exception>
    public static async Task<MigrationResolution> ResolveAsync(
        StateDirectory stateDirectory, string criuPath, bool followCriuLog, string migrationId, OperatorWord word, string by,
        IProgress<MigrationEvent>? observer, CancellationToken cancellationToken)
    {
        var summary = await SummaryAsync(stateDirectory, migrationId, cancellationToken).ConfigureAwait(false);
        if (!summary.NeedsResolution)
            return Resolutions.Of(summary, ResolutionOutcome.AlreadySettled, $"it ended as {summary.State}");
        var outcome = await new DestinationRecovery(stateDirectory, criuPath, followCriuLog, observer)
            .ResolveAsync(migrationId, word, by, cancellationToken).ConfigureAwait(false);
        return outcome is null
            ? NeedsWord(summary)
            : Settled(summary, outcome.State, outcome.RootPid, outcome.Found, outcome.Done, outcome.HasEnded);
    }

    /// <exception cref="PhaulException">There is no such migration.</exception>
    public static async Task<MigrationSummary> SummaryAsync(
        StateDirectory stateDirectory, string migrationId, CancellationToken cancellationToken) =>
        (await new MigrationHistory(stateDirectory).ReadAsync(migrationId, cancellationToken).ConfigureAwait(false))
            .FirstOrDefault(summary => summary.Side == MigrationSide.Destination)
        ?? throw new PhaulException(PhaulErrorId.InvalidRequest, $"There is no journal of migration {migrationId} in {stateDirectory.Path}");

    public static MigrationResolution Settled(
        MigrationSummary summary, MigrationState state, int? rootPid, string found, string? done, bool hasEnded) =>
        Resolutions.Of(summary, ResolutionOutcome.Settled, found) with
        {
            State = state,
            ProgramState = hasEnded || state == MigrationState.Lost ? ProgramState.Gone
                : state == MigrationState.Running ? ProgramState.RunningOnDestination : ProgramState.RunningOnSource,
            Done = rootPid is { } pid && state == MigrationState.Running && !hasEnded ? $"{done}, pid {pid}" : done,
        };

    public static MigrationResolution InProgress(MigrationSummary summary, string found) =>
        Resolutions.Of(summary, ResolutionOutcome.InProgress, found) with { Remains = "Wait for it." };

    /// <summary>Prepared, and the source has not said how it ended.</summary>
    public static MigrationResolution NeedsWord(MigrationSummary summary) =>
        Resolutions.Of(summary, ResolutionOutcome.Unresolved, "the program was prepared here, and the source was lost before it said whether it let go of its own") with
        {
            State = MigrationState.InDoubt,
            ProgramState = ProgramState.Unknown,
            Remains =
                $"On the source host ({summary.SourceHost}): Resolve-PhaulMigration / phaul resolve {summary.MigrationId}. It looks whether the program " +
                "is there and tells this host. Only if that host is gone for good: here with -SourceIsGone / --source-is-gone; if the program " +
                "runs there and the host cannot reach this one, with -SourceIsRunning / --source-is-running.",
        };
}

/// <summary>What all resolutions are made from.</summary>
internal static class Resolutions
{
    public static MigrationResolution Of(MigrationSummary summary, ResolutionOutcome outcome, string found) => new()
    {
        MigrationId = summary.MigrationId,
        Side = summary.Side,
        Outcome = outcome,
        State = summary.State,
        ProgramState = summary.ProgramState,
        Pid = summary.Pid,
        ProcessName = summary.ProcessName,
        SourceHost = summary.SourceHost,
        DestinationHost = summary.DestinationHost,
        Found = found,
    };
}
