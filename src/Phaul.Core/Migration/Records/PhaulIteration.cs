// One iteration of a migration, as operators see it.

namespace Phaul;

/// <summary>What an iteration did.</summary>
public enum IterationKind
{
    /// <summary>Memory copied while the program ran on.</summary>
    PreDump,

    /// <summary>The last copy, with the program frozen.</summary>
    FinalDump,
}

/// <summary>What the convergence policy decided after an iteration.</summary>
public enum IterationDecision
{
    /// <summary>Another iteration.</summary>
    Continue,

    /// <summary>Freeze, copy the rest, hand over.</summary>
    HandOver,

    /// <summary>This was the final dump; there was nothing to decide.</summary>
    Final,
}

/// <summary>The record of one finished iteration. The same on both hosts.</summary>
public sealed record PhaulIteration
{
    /// <summary>The migration it belongs to.</summary>
    public required string MigrationId { get; init; }

    /// <summary>Counts from 1; the final dump has the highest.</summary>
    public required int Index { get; init; }

    /// <summary>Pre-dump or final dump.</summary>
    public required IterationKind Kind { get; init; }

    /// <summary>When it began, by the source's clock.</summary>
    public required DateTimeOffset StartTime { get; init; }

    /// <summary>How long it took, from the destination's page server being asked for to its end.</summary>
    public required TimeSpan Duration { get; init; }

    /// <summary>How long the program was frozen in it, as CRIU measured (stats-dump, <c>frozen_time</c>).</summary>
    public required TimeSpan FrozenTime { get; init; }

    /// <summary>Pages that CRIU looked at (stats-dump, <c>pages_scanned</c>), shared memory included.</summary>
    public required long PagesScanned { get; init; }

    /// <summary>Pages left out because an earlier iteration has them unchanged (stats-dump, <c>pages_skipped_parent</c>).</summary>
    public required long PagesSkipped { get; init; }

    /// <summary>Pages written (stats-dump, <c>pages_written</c>), shared memory included.</summary>
    public required long PagesWritten { get; init; }

    /// <summary>Bytes of page data and page headers that CRIU handed over in this iteration.</summary>
    public required long BytesSent { get; init; }

    /// <summary>Bytes per second dirtied by the program since the previous iteration; null for the first.</summary>
    public double? DirtyBytesPerSecond { get; init; }

    /// <summary>Bytes per second moved in this iteration.</summary>
    public required double BytesPerSecond { get; init; }

    /// <summary>The downtime expected if the hand-over came next; null where it is not predicted.</summary>
    public TimeSpan? PredictedDowntime { get; init; }

    /// <summary>What the convergence policy decided.</summary>
    public required IterationDecision Decision { get; init; }

    /// <summary>Why it decided so, in words.</summary>
    public required string Reason { get; init; }
}
