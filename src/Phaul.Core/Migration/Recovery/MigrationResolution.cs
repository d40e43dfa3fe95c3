// What a resolution found and did, as operators see it.

namespace Phaul;

/// <summary>How a resolution ended.</summary>
public enum ResolutionOutcome
{
    /// <summary>It is settled now.</summary>
    Settled,

    /// <summary>There was nothing to settle.</summary>
    AlreadySettled,

    /// <summary>Somebody is at it: the migration, or another resolution, runs.</summary>
    InProgress,

    /// <summary>It could not be settled from here, or not without a person: see <see cref="MigrationResolution.Remains"/>.</summary>
    Unresolved,
}

/// <summary>What only a person can know, when the other host cannot be asked.</summary>
public enum OperatorWord
{
    /// <summary>None: what cannot be proved is left alone.</summary>
    None,

    /// <summary>
    /// Destination: the source host, or the tree on it, is gone for good. The held copy is run. Dangerous: if it is not true, the
    /// program runs twice.
    /// </summary>
    SourceIsGone,

    /// <summary>
    /// Destination: the program runs on the source. The held copy is discarded. Dangerous: if it is not true, the program is lost,
    /// but for its images, which are kept.
    /// </summary>
    SourceIsRunning,
}

/// <summary>One side of one migration, looked at and, where that was possible, settled.</summary>
public sealed record MigrationResolution
{
    /// <summary>The migration.</summary>
    public required string MigrationId { get; init; }

    /// <summary>The side that was settled: the one whose journal is on this host.</summary>
    public required MigrationSide Side { get; init; }

    /// <summary>How it ended.</summary>
    public required ResolutionOutcome Outcome { get; init; }

    /// <summary>The state of this side now; null if the journal tells none.</summary>
    public MigrationState? State { get; init; }

    /// <summary>Where the program is, as far as can be known from here.</summary>
    public required ProgramState ProgramState { get; init; }

    /// <summary>The root pid on the source.</summary>
    public int? Pid { get; init; }

    /// <summary>The command name of the root process.</summary>
    public string? ProcessName { get; init; }

    /// <summary>The source's host name.</summary>
    public string? SourceHost { get; init; }

    /// <summary>The destination's host name, or its address.</summary>
    public string? DestinationHost { get; init; }

    /// <summary>What was found.</summary>
    public required string Found { get; init; }

    /// <summary>What was done; null: nothing.</summary>
    public string? Done { get; init; }

    /// <summary>What remains to be done, and by whom; null: nothing.</summary>
    public string? Remains { get; init; }

    /// <summary>When.</summary>
    public DateTimeOffset Time { get; init; } = DateTimeOffset.Now;
}
