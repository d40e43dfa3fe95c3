// The story of a migration as its journal tells it: how it began, what happened, how it ended.

namespace Phaul.Journal;

/// <summary>The first record: which migration, which side, and who writes.</summary>
/// <param name="Id">The migration.</param>
/// <param name="Side">The side that this journal belongs to.</param>
/// <param name="Host">This host's name.</param>
/// <param name="Mode">The mode that was asked for.</param>
/// <param name="Pid">The root pid on the source.</param>
/// <param name="ProcessName">The command name of the root process.</param>
/// <param name="Peer">The other host: its name, or its address.</param>
/// <param name="WorkDirectory">Where this side puts images and logs.</param>
public sealed record Begun(
    string Id, MigrationSide Side, string Host, MigrationMode Mode, int Pid, string? ProcessName, string? Peer, string? WorkDirectory)
    : JournalRecord
{
    /// <summary>The version of Phaul that writes.</summary>
    public string? PhaulVersion { get; init; }

    /// <summary>Images are to be kept after success.</summary>
    public bool KeepImages { get; init; }

    /// <summary>What was asked for beyond the mode, for people: names and values without secrets.</summary>
    public IReadOnlyDictionary<string, string>? Request { get; init; }

    /// <summary>Who writes. <see cref="MigrationJournal"/> fills it in.</summary>
    public JournalWriter? Writer { get; init; }
}

/// <summary>Somebody else goes on writing: recovery after the first writer's death. The journal itself appends it.</summary>
/// <param name="Writer">Who writes from here on.</param>
public sealed record Reopened(JournalWriter Writer) : JournalRecord;

/// <summary>A state was entered.</summary>
/// <param name="Change">The change, with the side that made it.</param>
public sealed record StateEntered(MigrationStateChange Change) : JournalRecord;

/// <summary>An iteration finished.</summary>
/// <param name="Iteration">Its record.</param>
public sealed record IterationFinished(PhaulIteration Iteration) : JournalRecord;

/// <summary>Something that does not stop the migration but that an operator should read.</summary>
/// <param name="Text">One sentence.</param>
public sealed record Warning(string Text) : JournalRecord;

/// <summary>An unresolved migration was settled.</summary>
/// <param name="Text">What was found and what was done.</param>
/// <param name="By">Who settled it: the command and its user, or the peer.</param>
public sealed record Resolution(string Text, string By) : JournalRecord;

/// <summary>
/// The migration ended on this side, or is held InDoubt by nobody any more. A resolution may append another; the last one counts.
/// </summary>
/// <param name="Result">The result.</param>
public sealed record Finished(PhaulMigrationResult Result) : JournalRecord;
