// What a running migration tells its observers.

namespace Phaul;

/// <summary>Something that happened in a migration. Delivered in order, never concurrently for one migration.</summary>
/// <param name="MigrationId">The migration.</param>
/// <param name="Time">When.</param>
public abstract record MigrationEvent(string MigrationId, DateTimeOffset Time);

/// <summary>A state was entered.</summary>
public sealed record StateChangedEvent(string MigrationId, DateTimeOffset Time, MigrationStateChange Change) : MigrationEvent(MigrationId, Time);

/// <summary>How far it is. Sent a few times a second at most.</summary>
/// <param name="State">The current state.</param>
/// <param name="Iteration">The iteration under way, from 1; 0 before the first.</param>
/// <param name="BytesMoved">Bytes of pages and images moved in this iteration.</param>
/// <param name="BytesExpected">The estimate of all bytes of this iteration; null where there is none.</param>
/// <param name="BytesPerSecond">The rate over the last second or so.</param>
public sealed record ProgressEvent(
    string MigrationId, DateTimeOffset Time, MigrationState State, int Iteration, long BytesMoved, long? BytesExpected, double BytesPerSecond)
    : MigrationEvent(MigrationId, Time)
{
    /// <summary>Post-copy: the program runs on the destination, and what moves is what it lacks.</summary>
    public bool MemoryFollows { get; init; }

    /// <summary>0 to 100, or null where no estimate is possible.</summary>
    public int? Percent => BytesExpected is > 0 ? (int)Math.Min(100, BytesMoved * 100 / BytesExpected.Value) : null;

    /// <summary>The estimated rest of this iteration, or null.</summary>
    public TimeSpan? Remaining => BytesExpected is > 0 && BytesPerSecond > 1
        ? TimeSpan.FromSeconds(Math.Max(0, (BytesExpected.Value - BytesMoved) / BytesPerSecond))
        : null;
}

/// <summary>An iteration finished.</summary>
public sealed record IterationCompletedEvent(string MigrationId, DateTimeOffset Time, PhaulIteration Iteration) : MigrationEvent(MigrationId, Time);

/// <summary>Something that does not stop the migration but that an operator should read.</summary>
public sealed record WarningEvent(string MigrationId, DateTimeOffset Time, string Message) : MigrationEvent(MigrationId, Time);

/// <summary>One sentence of the story, for <c>-Verbose</c>.</summary>
public sealed record StoryEvent(string MigrationId, DateTimeOffset Time, string Message) : MigrationEvent(MigrationId, Time);

/// <summary>
/// A line of a log of CRIU on this host, for <c>-Debug</c>. Only where <see cref="MigrationRequest.FollowCriuLog"/> or
/// <see cref="DestinationServerOptions.FollowCriuLog"/> asks for them; they come up to half a second late, and are bounded in
/// length and number.
/// </summary>
public sealed record CriuLogEvent(string MigrationId, DateTimeOffset Time, string Host, string Line) : MigrationEvent(MigrationId, Time);
