// The states of a migration, the same words in code, journal, objects and docs.

namespace Phaul;

/// <summary>Which end of a migration a record speaks of.</summary>
public enum MigrationSide
{
    /// <summary>The host on which the program runs at first.</summary>
    Source,

    /// <summary>The host to which it moves.</summary>
    Destination,
}

/// <summary>The states of a migration. <see cref="Committing"/> and <see cref="InDoubt"/> belong to both sides.</summary>
public enum MigrationState
{
    /// <summary>Source: reaching and authenticating the destination.</summary>
    Connecting,

    /// <summary>Source: both hosts are checked; nothing has been touched.</summary>
    Checking,

    /// <summary>Source: memory is copied while the program runs.</summary>
    PreCopying,

    /// <summary>Source: CRIU freezes and dumps the tree.</summary>
    Freezing,

    /// <summary>Source: the tree is frozen; images travel and are restored on the destination.</summary>
    Transferring,

    /// <summary>Source: the tree is being killed and its death verified. Destination: the restored tree is being resumed.</summary>
    Committing,

    /// <summary>Source, final: the program runs on the destination and nowhere else.</summary>
    Completed,

    /// <summary>Source, final: the program runs on the source as if nothing had been.</summary>
    RolledBack,

    /// <summary>Either side: it cannot be known from here whether the other side went on. Held until resolved.</summary>
    InDoubt,

    /// <summary>Destination: a source has connected and announced a migration.</summary>
    Accepted,

    /// <summary>Destination: pages and images arrive.</summary>
    Receiving,

    /// <summary>Destination: CRIU restores the tree.</summary>
    Restoring,

    /// <summary>Destination: the tree exists and is held; it has not run an instruction.</summary>
    Prepared,

    /// <summary>Destination, final: the program runs here.</summary>
    Running,

    /// <summary>Destination, final: what was received or restored is gone; the program is not here.</summary>
    Discarded,

    /// <summary>
    /// Either side, final: after the commit of a PostCopy or Hybrid migration the destination could not get the rest of the memory.
    /// The program is nowhere any more.
    /// </summary>
    Lost,
}

/// <summary>Where the program is, as far as can be known. What an operator wants to read first in an error.</summary>
public enum ProgramState
{
    /// <summary>It runs on the source; nothing was lost.</summary>
    RunningOnSource,

    /// <summary>It runs on the destination.</summary>
    RunningOnDestination,

    /// <summary>It is frozen on the source, and will be resumed or handed over.</summary>
    FrozenOnSource,

    /// <summary>It is gone from the source and held, ready to run, on the destination.</summary>
    HeldOnDestination,

    /// <summary>This side cannot know; see <see cref="MigrationState.InDoubt"/>.</summary>
    Unknown,

    /// <summary>There is no such program: it had ended before the migration touched it, or was lost after a PostCopy commit.</summary>
    Gone,
}

/// <summary>A state and the moment at which it was entered.</summary>
/// <param name="Side">The side that entered it.</param>
/// <param name="State">The state.</param>
/// <param name="Time">When, by the clock of the host that recorded it.</param>
/// <param name="Reason">Why, where that is not obvious from the state.</param>
public sealed record MigrationStateChange(MigrationSide Side, MigrationState State, DateTimeOffset Time, string? Reason = null);
