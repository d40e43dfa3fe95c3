// The hand-over as a state machine: everything of two hosts, a link and a program that decides how a migration ends.

namespace Phaul.Tests.Model;

/// <summary>The source's program.</summary>
public enum Program
{
    Running,
    Frozen,
    Dead,
}

/// <summary>The copy on the destination.</summary>
public enum Copy
{
    None,
    Held,

    /// <summary>Held, and CRIU is gone: asleep for ever.</summary>
    Asleep,
    Running,

    /// <summary>It ran, and has ended.</summary>
    Ended,
}

/// <summary>CRIU on the source, which has the tree frozen.</summary>
public enum Dumper
{
    Waiting,

    /// <summary>It was told to kill the tree.</summary>
    Told,
    Gone,
}

/// <summary>Where the source's process is in its code. Its journal is apart: a crash loses this, and keeps that.</summary>
public enum SourceStep
{
    WaitsForPrepared,
    Intended,
    GateClosed,
    SawDeath,
    WaitsForRunning,

    /// <summary>The program is here, and the destination has to be told.</summary>
    Aborting,
    Ended,
    Crashed,

    /// <summary>Crashed, and `phaul resolve` has seen the tree alive.</summary>
    Resolving,

    /// <summary>The same, and has seen it gone.</summary>
    ResolvingGone,
}

/// <summary>Where the destination's process is in its code.</summary>
public enum DestinationStep
{
    Restoring,
    Prepared,

    /// <summary>Told to commit, and journalled.</summary>
    Committing,

    /// <summary>About to tell CRIU to resume.</summary>
    Resuming,
    Ended,
    Crashed,

    /// <summary>Restarted: it holds nothing, and answers from its journal.</summary>
    Idle,
}

/// <summary>What CRIU's log on the destination says last.</summary>
public enum LastWord
{
    Nothing,
    GaveUp,
    Resumed,
}

/// <summary>What is under way between the hosts; each may arrive or be lost.</summary>
[Flags]
public enum Messages
{
    None = 0,
    Prepared = 1,
    Commit = 2,
    Abort = 4,
    SettleCommitted = 8,
    SettleRolledBack = 16,
    Running = 32,
    Discarded = 64,
}

/// <summary>One state of everything.</summary>
public readonly record struct HandOverState(
    Program Program,
    Dumper Dumper,
    SourceStep Source,
    MigrationState SourceJournal,
    bool Intent,
    bool TreeGone,
    bool Freed,
    Copy Copy,
    DestinationStep Destination,
    MigrationState DestinationJournal,
    bool Resuming,
    LastWord LastWord,
    bool HasEnded,
    Messages Messages,
    bool LinkIsUp,
    int Faults)
{
    /// <summary>The tree is frozen and dumped, and the destination was asked to restore it.</summary>
    public static HandOverState Start { get; } = new(
        Program.Frozen, Dumper.Waiting, SourceStep.WaitsForPrepared, MigrationState.Transferring, Intent: false, TreeGone: false, Freed: false,
        Copy.None, DestinationStep.Restoring, MigrationState.Restoring, Resuming: false, LastWord.Nothing, HasEnded: false,
        Messages.None, LinkIsUp: true, Faults: 0);

    /// <summary>How many copies can run instructions.</summary>
    public int Executing => (Program == Program.Running ? 1 : 0) + (Copy == Copy.Running ? 1 : 0);

    /// <summary>Both sides have ended, and so has everything between them.</summary>
    public bool IsSettled =>
        MigrationTransitions.IsFinal(MigrationSide.Source, SourceJournal) && MigrationTransitions.IsFinal(MigrationSide.Destination, DestinationJournal);
}
