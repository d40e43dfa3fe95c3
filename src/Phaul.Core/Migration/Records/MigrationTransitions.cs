// The one table of which state may follow which. The code's state machine, the journal's reader and the model test all use it.

namespace Phaul;

/// <summary>The allowed state transitions of both sides.</summary>
public static class MigrationTransitions
{
    private static readonly Dictionary<MigrationState, MigrationState[]> Source = new()
    {
        [MigrationState.Connecting] = [MigrationState.Checking, MigrationState.RolledBack],
        [MigrationState.Checking] = [MigrationState.PreCopying, MigrationState.Freezing, MigrationState.RolledBack],
        [MigrationState.PreCopying] = [MigrationState.Freezing, MigrationState.RolledBack],
        [MigrationState.Freezing] = [MigrationState.Transferring, MigrationState.RolledBack],
        [MigrationState.Transferring] = [MigrationState.Committing, MigrationState.RolledBack],
        [MigrationState.Committing] = [MigrationState.Completed, MigrationState.RolledBack, MigrationState.InDoubt, MigrationState.Lost],
        [MigrationState.InDoubt] = [MigrationState.Completed, MigrationState.RolledBack, MigrationState.Lost],
        [MigrationState.Completed] = [],
        [MigrationState.RolledBack] = [],
        [MigrationState.Lost] = [],
    };

    private static readonly Dictionary<MigrationState, MigrationState[]> Destination = new()
    {
        [MigrationState.Accepted] = [MigrationState.Receiving, MigrationState.Discarded],
        [MigrationState.Receiving] = [MigrationState.Restoring, MigrationState.Discarded],
        [MigrationState.Restoring] = [MigrationState.Prepared, MigrationState.Discarded],
        [MigrationState.Prepared] = [MigrationState.Committing, MigrationState.Discarded, MigrationState.InDoubt],
        [MigrationState.Committing] = [MigrationState.Running, MigrationState.InDoubt, MigrationState.Lost],
        [MigrationState.InDoubt] = [MigrationState.Committing, MigrationState.Discarded],
        // Only where memory follows a program that runs already
        [MigrationState.Running] = [MigrationState.Lost],
        [MigrationState.Discarded] = [],
        [MigrationState.Lost] = [],
    };

    /// <summary>The state in which a side begins.</summary>
    public static MigrationState First(MigrationSide side) =>
        side == MigrationSide.Source ? MigrationState.Connecting : MigrationState.Accepted;

    /// <summary>The states that may follow <paramref name="state"/>; empty for final ones.</summary>
    /// <exception cref="ArgumentException">The side has no such state.</exception>
    public static IReadOnlyList<MigrationState> After(MigrationSide side, MigrationState state) =>
        Table(side).TryGetValue(state, out var next) ? next : throw new ArgumentException($"The {side} has no state {state}.", nameof(state));

    /// <summary>Whether <paramref name="next"/> may follow <paramref name="state"/>.</summary>
    public static bool IsAllowed(MigrationSide side, MigrationState state, MigrationState next) => After(side, state).Contains(next);

    /// <summary>Whether the migration is over on this side: nothing can follow, but for the loss of a program that runs without all its memory.</summary>
    public static bool IsFinal(MigrationSide side, MigrationState state) => After(side, state).All(next => next == MigrationState.Lost);

    /// <summary>All states of a side.</summary>
    public static IReadOnlyCollection<MigrationState> StatesOf(MigrationSide side) => Table(side).Keys;

    private static Dictionary<MigrationState, MigrationState[]> Table(MigrationSide side) =>
        side == MigrationSide.Source ? Source : Destination;
}
