// The token bucket, by a clock of the test's own.

using Phaul.Transport;

namespace Phaul.Tests.Transport;

public class BandwidthLimitTests
{
    private sealed class Clock : TimeProvider
    {
        private readonly List<ManualTimer> _timers = [];
        private long _ticks;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public TimeSpan Elapsed => TimeSpan.FromTicks(_ticks);

        public override long GetTimestamp() => _ticks;

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = new ManualTimer(() => callback(state), dueTime);
            _timers.Add(timer);
            return timer;
        }

        /// <summary>Goes on to the next timer.</summary>
        public void Next()
        {
            var timer = _timers.First(timer => timer.IsWaiting);
            _ticks += timer.DueTime.Ticks;
            timer.Fire();
        }

        private sealed class ManualTimer(Action fire, TimeSpan dueTime) : ITimer
        {
            public TimeSpan DueTime { get; } = dueTime;

            public bool IsWaiting { get; private set; } = dueTime != Timeout.InfiniteTimeSpan;

            public void Fire()
            {
                IsWaiting = false;
                fire();
            }

            public bool Change(TimeSpan dueTime, TimeSpan period) => false;

            public void Dispose() => IsWaiting = false;

            public ValueTask DisposeAsync()
            {
                Dispose();
                return ValueTask.CompletedTask;
            }
        }
    }

    [Fact]
    public async Task The_rate_holds_for_pieces_of_any_size()
    {
        for (var seed = 0; seed < 50; seed++)
        {
            var random = new Random(seed);
            var clock = new Clock();
            using var limit = new BandwidthLimit(1 << 20, clock);
            long total = 0;
            for (var piece = 0; piece < 100; piece++)
            {
                var bytes = random.Next(1, 1 << 18);
                var taking = limit.TakeAsync(bytes).AsTask();
                if (!taking.IsCompleted)
                    clock.Next();
                await taking.WaitAsync(TimeSpan.FromMinutes(1));
                total += bytes;
            }

            // All but one burst has been paid for.
            var expected = (total - (1 << 20) * 0.05) / (1 << 20);
            Assert.True(Math.Abs(clock.Elapsed.TotalSeconds - expected) < 0.01, $"seed {seed}: {clock.Elapsed} for {total} bytes");
        }
    }

    [Fact]
    public async Task Lifting_lets_those_who_wait_go_on()
    {
        using var limit = new BandwidthLimit(1, new Clock());
        var taking = limit.TakeAsync(1 << 20).AsTask();
        Assert.False(taking.IsCompleted);
        limit.Lift();
        await taking.WaitAsync(TimeSpan.FromMinutes(1));
        Assert.True(limit.TakeAsync(1 << 20).IsCompletedSuccessfully);
    }

    [Fact]
    public async Task Cancelling_ends_a_wait()
    {
        using var limit = new BandwidthLimit(1, new Clock());
        using var cancellation = new CancellationTokenSource();
        var taking = limit.TakeAsync(1 << 20, cancellation.Token).AsTask();
        await cancellation.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => taking);
    }
}
