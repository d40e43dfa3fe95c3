// Whoever is first at the gate wins, and the other never happens.

namespace Phaul.Tests.Migration;

public class CommitGateTests
{
    private static PhaulException Cancelled() => new(PhaulErrorId.Cancelled, "cancelled");

    [Fact]
    public async Task A_cancellation_before_the_commit_calls_off()
    {
        await using var gate = new CommitGate();
        using var cancellation = new CancellationTokenSource();
        gate.CallOffOn(cancellation.Token, Cancelled);
        await cancellation.CancelAsync();
        Assert.True(gate.CallOffToken.IsCancellationRequested);
        Assert.Equal(PhaulErrorId.Cancelled, gate.Reason?.ErrorId);
        Assert.False(gate.TryClose());
        Assert.False(gate.IsClosed);
    }

    [Fact]
    public async Task A_cancellation_after_the_commit_has_no_effect()
    {
        await using var gate = new CommitGate();
        using var cancellation = new CancellationTokenSource();
        gate.CallOffOn(cancellation.Token, Cancelled);
        Assert.True(gate.TryClose());
        await cancellation.CancelAsync();
        Assert.False(gate.CallOffToken.IsCancellationRequested);
        Assert.Null(gate.Reason);
        Assert.True(gate.IsClosed);
    }

    [Fact]
    public async Task The_limit_calls_off()
    {
        await using var gate = new CommitGate();
        gate.CallOffAfter(TimeSpan.FromMilliseconds(1), () => new PhaulException(PhaulErrorId.TimedOut, "too long"));
        await Task.Delay(Timeout.Infinite, gate.CallOffToken).ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(TimeSpan.FromMinutes(1));
        Assert.Equal(PhaulErrorId.TimedOut, gate.Reason?.ErrorId);
    }

    [Fact]
    public async Task Of_many_at_once_exactly_one_wins()
    {
        for (var round = 0; round < 200; round++)
        {
            await using var gate = new CommitGate();
            using var cancellation = new CancellationTokenSource();
            gate.CallOffOn(cancellation.Token, Cancelled);
            var closing = Task.Run(gate.TryClose);
            var cancelling = Task.Run(cancellation.Cancel);
            await Task.WhenAll(closing, cancelling);
            Assert.NotEqual(await closing, gate.CallOffToken.IsCancellationRequested);
        }
    }
}
