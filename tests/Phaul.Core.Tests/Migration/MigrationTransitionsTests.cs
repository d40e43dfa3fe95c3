// The table of states: what recovery and people rely on.

namespace Phaul.Tests.Migration;

public class MigrationTransitionsTests
{
    [Theory]
    [InlineData(MigrationSide.Source)]
    [InlineData(MigrationSide.Destination)]
    public void Every_state_can_be_reached_and_leads_to_an_end(MigrationSide side)
    {
        var reached = new HashSet<MigrationState> { MigrationTransitions.First(side) };
        var open = new Queue<MigrationState>(reached);
        while (open.TryDequeue(out var state))
        {
            foreach (var next in MigrationTransitions.After(side, state))
            {
                if (reached.Add(next))
                    open.Enqueue(next);
            }
        }

        Assert.Equal(MigrationTransitions.StatesOf(side).Order(), reached.Order());
        foreach (var state in reached)
            Assert.True(LeadsToAnEnd(side, state), $"{side} {state}");
    }

    [Fact]
    public void The_source_cannot_complete_without_committing() =>
        Assert.Equal(
            [MigrationState.Committing, MigrationState.InDoubt],
            MigrationTransitions.StatesOf(MigrationSide.Source)
                .Where(state => MigrationTransitions.IsAllowed(MigrationSide.Source, state, MigrationState.Completed)).Order());

    [Fact]
    public void The_destination_cannot_run_without_having_been_prepared()
    {
        Assert.Equal(
            [MigrationState.Committing],
            MigrationTransitions.StatesOf(MigrationSide.Destination)
                .Where(state => MigrationTransitions.IsAllowed(MigrationSide.Destination, state, MigrationState.Running)));
        Assert.Equal(
            [MigrationState.Prepared, MigrationState.InDoubt],
            MigrationTransitions.StatesOf(MigrationSide.Destination)
                .Where(state => MigrationTransitions.IsAllowed(MigrationSide.Destination, state, MigrationState.Committing))
                .OrderByDescending(state => state == MigrationState.Prepared));
    }

    [Fact]
    public void A_side_knows_only_its_own_states() =>
        Assert.Throws<ArgumentException>(() => MigrationTransitions.After(MigrationSide.Source, MigrationState.Prepared));

    private static bool LeadsToAnEnd(MigrationSide side, MigrationState state) =>
        MigrationTransitions.IsFinal(side, state)
        || MigrationTransitions.After(side, state).Any(next => next != MigrationState.InDoubt && LeadsToAnEnd(side, next));
}
