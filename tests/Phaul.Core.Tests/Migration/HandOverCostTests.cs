// What a hand-over costs, as learned from the records of earlier ones.

using Phaul.Journal;
using Phaul.Tests.Journal;

namespace Phaul.Tests.Migration;

public sealed class HandOverCostTests : IDisposable
{
    private readonly TemporaryState _state = new();

    public void Dispose() => _state.Dispose();

    [Fact]
    public async Task Nothing_is_known_of_a_host_that_was_never_migrated_to()
    {
        Assert.Null(await MeasuredAsync("b"));
        await MigrateAsync("a", 700);
        Assert.Null(await MeasuredAsync("b"));
    }

    [Fact]
    public async Task The_pages_and_the_freeze_of_a_pre_dump_are_no_part_of_it()
    {
        // 10 MB at 100 MB/s, 20 ms of freeze, and the rest
        await MigrateAsync("b", 100 + 20 + 480);
        Assert.Equal(480, (await MeasuredAsync("b"))!.Value.TotalMilliseconds, 0.1);
    }

    [Fact]
    public async Task The_median_of_the_last_five_counts()
    {
        foreach (var downtime in (double[])[100_000, 100_000, 100_000, 520, 420, 9_000, 320, 620])
            await MigrateAsync("b", downtime);
        Assert.Equal(400, (await MeasuredAsync("b"))!.Value.TotalMilliseconds, 0.1);
    }

    [Fact]
    public async Task One_that_met_with_an_accident_does_not_count_alone()
    {
        await MigrateAsync("b", 520);
        await MigrateAsync("b", 25_000);
        Assert.Equal(400, (await MeasuredAsync("b"))!.Value.TotalMilliseconds, 0.1);
    }

    [Theory]
    [InlineData(MigrationState.RolledBack, MigrationMode.PreCopy)]
    [InlineData(MigrationState.Completed, MigrationMode.StopAndCopy)]
    [InlineData(MigrationState.Completed, MigrationMode.Hybrid)]
    public async Task What_did_not_end_so_or_went_another_way_says_nothing(MigrationState state, MigrationMode mode)
    {
        await MigrateAsync("b", 500, state, mode);
        Assert.Null(await MeasuredAsync("b"));
    }

    [Fact]
    public async Task One_with_a_warning_after_the_commit_says_nothing_and_one_with_an_earlier_does()
    {
        await MigrateAsync("b", 25_000, extra: [Sample.Entered(MigrationState.Committing), new Warning("the commit was not confirmed")]);
        Assert.Null(await MeasuredAsync("b"));
        await MigrateAsync("b", 620, extra: [new Warning("the clock of b is ahead"), Sample.Entered(MigrationState.Committing)]);
        Assert.Equal(500, (await MeasuredAsync("b"))!.Value.TotalMilliseconds, 0.1);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_record_that_cannot_be_read_hides_no_other(bool isCorrupt)
    {
        await MigrateAsync("b", 620);
        var broken = await MigrateAsync("b", 100_000);
        File.WriteAllText(broken, "no journal\n");
        if (!isCorrupt)
        {
            File.Delete(broken);
            Directory.CreateDirectory(broken);
        }

        Assert.Equal(500, (await MeasuredAsync("b"))!.Value.TotalMilliseconds, 0.1);
    }

    [Fact]
    public async Task An_engine_of_ones_own_says_nothing()
    {
        await MigrateAsync("b", 620, extra: [new EngineOfOwn()]);
        Assert.Null(await MeasuredAsync("b"));
    }

    [Fact]
    public void It_is_never_negative_whatever_was_measured()
    {
        var random = new Random(20);
        for (var round = 0; round < 500; round++)
        {
            var result = Result(random.NextDouble() * 1000, MigrationState.Completed, MigrationMode.PreCopy);
            var speeds = new[] { 0, double.PositiveInfinity, 1, 1e12, random.NextDouble() * 1e9 };
            var first = PreDump(speeds[random.Next(speeds.Length)], random.NextDouble() * 2000);
            var cost = HandOverCost.Of(result, [first, Final(random.NextInt64(1L << 40))]);
            Assert.InRange(cost!.Value, TimeSpan.Zero, result.Downtime!.Value);
        }
    }

    private Task<TimeSpan?> MeasuredAsync(string host) => HandOverCost.MeasuredAsync(_state.State, host);

    private Task<string> MigrateAsync(
        string host, double downtime, MigrationState state = MigrationState.Completed, MigrationMode mode = MigrationMode.PreCopy, JournalRecord[]? extra = null)
    {
        var id = MigrationId.New();
        return Sample.WriteAsync(
            _state.State, id, MigrationSide.Source, [
                Sample.Begun(id), .. extra ?? [], new IterationFinished(PreDump(100e6, 20)), new IterationFinished(Final(10_000_000)),
                new Finished(Result(downtime, state, mode) with { DestinationHost = host }),
            ]);
    }

    private static PhaulMigrationResult Result(double downtime, MigrationState state, MigrationMode mode) =>
        Sample.Finished(MigrationId.New(), state).Result with { Mode = mode, Downtime = TimeSpan.FromMilliseconds(downtime) };

    private static PhaulIteration PreDump(double bytesPerSecond, double frozen) => Sample.Iteration("", 1).Iteration with
    {
        BytesPerSecond = bytesPerSecond,
        FrozenTime = TimeSpan.FromMilliseconds(frozen),
    };

    private static PhaulIteration Final(long bytes) =>
        Sample.Iteration("", 2).Iteration with { Kind = IterationKind.FinalDump, BytesSent = bytes, Decision = IterationDecision.Final };
}
