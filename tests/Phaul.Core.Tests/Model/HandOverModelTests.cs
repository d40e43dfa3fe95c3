// Never two, never none: in every order in which everything can happen.

using Xunit.Abstractions;

namespace Phaul.Tests.Model;

public sealed class HandOverModelTests(ITestOutputHelper output)
{
    private const int MaxFaults = 4;

    // What a migration does before a destination may hold anything is no part of the hand-over
    private static readonly MigrationState[] Before =
    [
        MigrationState.Connecting, MigrationState.Checking, MigrationState.PreCopying, MigrationState.Freezing,
        MigrationState.Accepted, MigrationState.Receiving,
    ];

    [Fact]
    public void TheProgramNeverRunsTwiceAndIsNeverLost()
    {
        var exploration = Exploration.Of(new HandOverModel(MaxFaults));
        output.WriteLine($"{exploration.States} states, {exploration.Transitions} transitions, up to {MaxFaults} faults; {exploration.Settled} settled states");
        Assert.True(exploration.Violation is null, exploration.Violation);
    }

    [Fact]
    public void TheTableOfTheCodeIsTheOneOfTheModel()
    {
        var taken = Exploration.Of(new HandOverModel(MaxFaults)).Changes;
        foreach (var side in Enum.GetValues<MigrationSide>())
        {
            // Lost is not the hand-over's: it comes afterwards, where memory follows, and the fault matrix of PostCopy looks for it
            var table = MigrationTransitions.StatesOf(side).Except(Before)
                .SelectMany(state => MigrationTransitions.After(side, state).Select(next => (side, state, next)))
                .Where(change => change.next != MigrationState.Lost);
            Assert.Equal(table.Order(), taken.Where(change => change.Side == side).Order());
        }
    }

    [Theory]
    [InlineData(Mutation.CommitBeforeDeathIsVerified, "runs twice")]
    [InlineData(Mutation.IntentIsBelieved, "runs twice")]
    [InlineData(Mutation.RestoreAgainAlways, "started again")]
    [InlineData(Mutation.DiscardWhenSourceIsLost, "lost")]
    [InlineData(Mutation.LastWordIsIgnored, "lost")]
    public void AMistakeIsFound(Mutation mutation, string violation)
    {
        var exploration = Exploration.Of(new HandOverModel(MaxFaults, mutation));
        output.WriteLine(exploration.Violation ?? "nothing was found");
        Assert.Contains(violation, exploration.Violation);
    }
}
