// One line of the history: what a journal says of its migration, in the words that operators ask for.

namespace Phaul.Journal;

/// <summary>One side of one migration, as its journal tells it.</summary>
public sealed record MigrationSummary
{
    /// <summary>The migration.</summary>
    public required string MigrationId { get; init; }

    /// <summary>The side whose journal this is.</summary>
    public required MigrationSide Side { get; init; }

    /// <summary>The last state that was entered; null if none was recorded.</summary>
    public MigrationState? State { get; init; }

    /// <summary>Where the program is, as far as this journal can tell.</summary>
    public required ProgramState ProgramState { get; init; }

    /// <summary>The mode: that which was used once it ended, before that the one asked for; null if the journal does not tell.</summary>
    public MigrationMode? Mode { get; init; }

    /// <summary>The root pid on the source.</summary>
    public int? Pid { get; init; }

    /// <summary>The command name of the root process.</summary>
    public string? ProcessName { get; init; }

    /// <summary>The source's host name, or its address.</summary>
    public string? SourceHost { get; init; }

    /// <summary>The destination's host name, or its address.</summary>
    public string? DestinationHost { get; init; }

    /// <summary>When it began.</summary>
    public DateTimeOffset? StartTime { get; init; }

    /// <summary>From the beginning to the end; to the last record where it did not end; to now while it runs.</summary>
    public TimeSpan? Duration { get; init; }

    /// <summary>The downtime; null where it did not come so far.</summary>
    public TimeSpan? Downtime { get; init; }

    /// <summary>The number of finished iterations.</summary>
    public int IterationCount { get; init; }

    /// <summary>Bytes sent: all of them once there is a result, before that those of the finished iterations.</summary>
    public long BytesSent { get; init; }

    /// <summary>The process that migrates, or recovers, is alive.</summary>
    public bool IsRunning { get; init; }

    /// <summary>It did not end (as far as the journal can be read) and nobody is at it, or it is in doubt: it has to be settled.</summary>
    public bool NeedsResolution { get; init; }

    /// <summary>The program was handed over, but the process ended before it had cleared up. Nothing has to be decided.</summary>
    public bool HasLeftovers { get; init; }

    /// <summary>What is wrong with the journal; null if nothing is.</summary>
    public string? Corruption { get; init; }

    /// <summary>The format's version if a newer Phaul wrote parts of the journal that this one does not understand; else null.</summary>
    public int? NewerVersion { get; init; }

    /// <summary>Why it did not complete; null if it did or has not ended.</summary>
    public string? Error { get; init; }

    /// <summary>What operators should know although it stopped nothing, in order.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Where this side's images are, or were.</summary>
    public string? ImagesDirectory { get; init; }

    /// <summary>The result, once it ended.</summary>
    public PhaulMigrationResult? Result { get; init; }

    /// <summary>The journal.</summary>
    public required string JournalPath { get; init; }

    /// <summary>The time of the last record; null if there is none.</summary>
    public DateTimeOffset? LastRecordTime { get; init; }

    /// <summary>Whether a state is an end that leaves nothing to settle.</summary>
    public static bool IsFinal(MigrationState state)
        => state is MigrationState.Completed or MigrationState.RolledBack or MigrationState.Running or MigrationState.Discarded or MigrationState.Lost;

    internal static MigrationSummary Of(
        string id, MigrationSide side, string path, JournalContents contents, bool isRunning, DateTimeOffset now)
    {
        var records = contents.Records;
        var begun = records.OfType<Begun>().FirstOrDefault();
        var result = records.OfType<Finished>().LastOrDefault()?.Result;
        var peer = records.OfType<PeerMet>().LastOrDefault()?.Name ?? begun?.Peer;
        // A result is the end only until a state is entered after it: a resolution goes on where the first end was none.
        var last = records.LastOrDefault(r => r is Finished || (r is StateEntered entered && entered.Change.Side == side));
        var end = last is Finished ? result : null;
        var state = end?.State ?? (last as StateEntered)?.Change.State;
        var iterations = records.OfType<IterationFinished>().Select(record => record.Iteration).ToArray();
        var corruption = CorruptionOf(id, side, begun, contents);
        // What was discarded, or is lost, needs none
        var runsWithoutMemory = state == MigrationState.Running && LacksMemory(records);
        var isSettled = state is not null && IsFinal(state.Value) && corruption is null;
        return new()
        {
            MigrationId = id,
            Side = side,
            State = state,
            ProgramState = !isRunning && runsWithoutMemory
                ? ProgramState.Unknown
                : end?.ProgramState ?? WhereTheProgramIs(side, state, records, isRunning),
            Mode = result?.Mode ?? begun?.Mode,
            Pid = begun?.Pid,
            ProcessName = result?.ProcessName ?? begun?.ProcessName,
            SourceHost = result?.SourceHost ?? (side == MigrationSide.Source ? begun?.Host : peer),
            DestinationHost = result?.DestinationHost ?? (side == MigrationSide.Destination ? begun?.Host : peer),
            StartTime = result?.StartTime ?? begun?.Time,
            Duration = end?.Duration ?? (isRunning ? now : records.LastOrDefault()?.Time) - begun?.Time,
            Downtime = result?.Downtime,
            IterationCount = iterations.Length,
            BytesSent = result?.BytesSent ?? iterations.Sum(iteration => iteration.BytesSent),
            IsRunning = isRunning,
            NeedsResolution = state == MigrationState.InDoubt || (!isRunning && (!isSettled || PeerIsUntold(records) || runsWithoutMemory)),
            HasLeftovers = !isRunning && isSettled && result is null && !runsWithoutMemory && state is (MigrationState.Completed or MigrationState.Running),
            Corruption = corruption,
            NewerVersion = contents.NewerVersion,
            Error = result?.Error,
            Warnings = records.OfType<Warning>().Select(warning => warning.Text).ToArray(),
            ImagesDirectory = end is not null ? end.ImagesDirectory : records.OfType<ImagesPlace>().LastOrDefault()?.Directory,
            Result = result,
            JournalPath = path,
            LastRecordTime = records.LastOrDefault()?.Time,
        };
    }

    /// <summary>
    /// Whether the restored tree was to get memory from a process that has not journalled that it has all. One that was restored
    /// again before it ran has all of it; one that was to replace a tree that ran counts only when that is journalled as complete.
    /// </summary>
    internal static bool LacksMemory(IReadOnlyList<JournalRecord> records) =>
        records.LastOrDefault(record => record is Prepared or MemoryServed or MemoryLost or MemoryComplete) switch
        {
            MemoryServed or MemoryLost => true,
            Prepared => records.LastOrDefault(record => record is MemoryServed or MemoryLost or MemoryComplete) is MemoryLost,
            _ => false,
        };

    // Settled on this side; but the other may hold a copy until it learns so.
    private static bool PeerIsUntold(IReadOnlyList<JournalRecord> records) =>
        records.LastOrDefault(record => record is PeerUntold or PeerTold) is PeerUntold;

    private static string? CorruptionOf(string id, MigrationSide side, Begun? begun, JournalContents contents)
    {
        if (contents.Corruption is { } corruption)
            return $"line {corruption.Line}: {corruption.Reason}";
        return begun is null || (begun.Id == id && begun.Side == side)
            ? null
            : $"it is the journal of migration {Journal.MigrationId.Shown(begun.Id)}, {begun.Side}";
    }

    private static ProgramState WhereTheProgramIs(
        MigrationSide side, MigrationState? state, IReadOnlyList<JournalRecord> records, bool isRunning) => state switch
        {
            MigrationState.Completed or MigrationState.Running => ProgramState.RunningOnDestination,
            MigrationState.Lost => ProgramState.Gone,
            MigrationState.RolledBack or MigrationState.Discarded => ProgramState.RunningOnSource,
            // Until it is frozen the program runs on, whatever became of the writer.
            null or MigrationState.Connecting or MigrationState.Checking or MigrationState.PreCopying
                or MigrationState.Accepted or MigrationState.Receiving => ProgramState.RunningOnSource,
            // Whether it runs there already, or is lost, only the destination knows
            MigrationState.Committing when records.Any(record => record is TreeGone { PagesStillServed: true }) => ProgramState.Unknown,
            MigrationState.Committing when records.Any(record => record is TreeGone) => ProgramState.HeldOnDestination,
            MigrationState.InDoubt => ProgramState.Unknown,
            // What a living writer holds it answers for. What became of that when its writer died has to be looked up.
            _ when !isRunning => ProgramState.Unknown,
            MigrationState.Committing when side == MigrationSide.Destination => ProgramState.HeldOnDestination,
            _ => ProgramState.FrozenOnSource,
        };
}
