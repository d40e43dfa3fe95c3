// How a migration ended, as operators see it.

namespace Phaul;

/// <summary>The last object of a migration, on success and (inside <see cref="PhaulException.Result"/>) on failure.</summary>
public sealed record PhaulMigrationResult
{
    /// <summary>A sortable, unique name: time and random part, as in <c>20261121T224501-7f3a9c01</c>.</summary>
    public required string MigrationId { get; init; }

    /// <summary>The side that this result was recorded on.</summary>
    public required MigrationSide Side { get; init; }

    /// <summary>The mode that was used; never <see cref="MigrationMode.Auto"/>.</summary>
    public required MigrationMode Mode { get; init; }

    /// <summary>The state the migration is in.</summary>
    public required MigrationState State { get; init; }

    /// <summary>Where the program is now.</summary>
    public required ProgramState ProgramState { get; init; }

    /// <summary>The source's host name.</summary>
    public required string SourceHost { get; init; }

    /// <summary>The destination's host name, or its address where the name is not known.</summary>
    public required string DestinationHost { get; init; }

    /// <summary>The root pid on the source.</summary>
    public required int Pid { get; init; }

    /// <summary>The command name of the root process.</summary>
    public string? ProcessName { get; init; }

    /// <summary>The root pid on the destination, once it is known.</summary>
    public int? DestinationPid { get; init; }

    /// <summary>When it began.</summary>
    public required DateTimeOffset StartTime { get; init; }

    /// <summary>From the beginning to the end.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>
    /// From just before CRIU was let to freeze the tree until the source had the destination's word that it runs, on the
    /// source's clock: an upper bound for what the program itself saw. Null if it was never frozen for the hand-over.
    /// </summary>
    public TimeSpan? Downtime { get; init; }

    /// <summary>How long after the resume all memory was on the destination (lazy restore, post-copy); null where restore was eager.</summary>
    public TimeSpan? MemoryCompleteAfter { get; init; }

    /// <summary>All bytes sent to the destination, framing included, before encryption.</summary>
    public long BytesSent { get; init; }

    /// <summary>Bytes of CRIU's page stream.</summary>
    public long PageBytes { get; init; }

    /// <summary>Bytes of images other than pages.</summary>
    public long ImageBytes { get; init; }

    /// <summary>Pages written over all iterations.</summary>
    public long PagesWritten { get; init; }

    /// <summary>The number of iterations, the final dump included.</summary>
    public int IterationCount { get; init; }

    /// <summary>Every state of this side and when it was entered.</summary>
    public IReadOnlyList<MigrationStateChange> States { get; init; } = [];

    /// <summary>Where images and logs were kept on this host; null if they were removed.</summary>
    public string? ImagesDirectory { get; init; }

    /// <summary>What the operator should know although it did not stop the migration.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Why it did not complete; null if it did.</summary>
    public string? Error { get; init; }
}
