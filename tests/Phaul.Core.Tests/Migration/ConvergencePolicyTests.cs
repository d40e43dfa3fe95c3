// The convergence policy: the ancestors' rules, the predicting ones, and what must hold for any history.

namespace Phaul.Tests.Migration;

public class ConvergencePolicyTests
{
    private const long PageSize = 4096;

    private static IterationFigures Iteration(long pages, double seconds = 1, double? sincePrevious = null) => new(
        pages, pages * PageSize, TimeSpan.FromSeconds(seconds), TimeSpan.FromMilliseconds(5),
        sincePrevious is { } interval ? TimeSpan.FromSeconds(interval) : null);

    private static ConvergenceVerdict Decide(ConvergenceOptions options, params long[] pages) =>
        ConvergencePolicy.Decide([.. pages.Select((count, index) => Iteration(count, 1, index == 0 ? null : 1))], options);

    [Fact]
    public void The_first_iteration_of_a_program_with_memory_is_never_the_last_by_growth()
    {
        // P.Haul in Go compares the first iteration with nothing, and so never does a second one.
        Assert.Equal(IterationDecision.Continue, Decide(new ConvergenceOptions(), 32782).Decision);
    }

    [Theory]
    [InlineData(63, IterationDecision.HandOver)]
    [InlineData(64, IterationDecision.Continue)]
    public void Few_pages_hand_over(long pages, IterationDecision expected) =>
        Assert.Equal(expected, Decide(new ConvergenceOptions(), 32782, pages).Decision);

    [Theory]
    [InlineData(5631, IterationDecision.Continue)]
    [InlineData(5632, IterationDecision.HandOver)]
    public void Growth_by_32_pages_hands_over(long pages, IterationDecision expected) =>
        Assert.Equal(expected, Decide(new ConvergenceOptions(), 32782, 5600, pages).Decision);

    [Fact]
    public void The_eighth_iteration_is_the_last()
    {
        var pages = Enumerable.Range(0, 8).Select(index => 100_000L - index * 1000).ToArray();
        Assert.Equal(IterationDecision.Continue, Decide(new ConvergenceOptions(), pages[..7]).Decision);
        Assert.Equal(IterationDecision.HandOver, Decide(new ConvergenceOptions(), pages).Decision);
    }

    [Fact]
    public void A_predicted_downtime_that_fits_hands_over()
    {
        var options = new ConvergenceOptions { MaxDowntime = TimeSpan.FromMilliseconds(500) };
        // 100,000 pages in a second, then 10,000 in 0.1 s: the rest is about 0.1 s of dirtying at 10,000 pages a second.
        var verdict = ConvergencePolicy.Decide([Iteration(100_000), Iteration(10_000, 0.1, 1)], options);
        Assert.Equal(IterationDecision.HandOver, verdict.Decision);
        Assert.InRange(verdict.PredictedDowntime!.Value.TotalMilliseconds, 150, 200);
    }

    [Fact]
    public void A_program_too_hot_to_converge_is_handed_over_once_another_round_would_not_help()
    {
        var options = new ConvergenceOptions { MaxDowntime = TimeSpan.FromMilliseconds(200) };
        var hot = new[] { Iteration(100_000), Iteration(90_000, 0.9, 1), Iteration(89_000, 0.9, 0.9) };
        Assert.Equal(IterationDecision.Continue, ConvergencePolicy.Decide(hot[..2], options).Decision);
        var verdict = ConvergencePolicy.Decide(hot, options);
        Assert.Equal(IterationDecision.HandOver, verdict.Decision);
        Assert.Contains("would not help", verdict.Reason);
    }

    [Fact]
    public void No_history_no_decision() =>
        Assert.Throws<ArgumentException>(() => ConvergencePolicy.Decide([], new ConvergenceOptions()));

    [Fact]
    public void Any_migration_ends_and_every_decision_is_explained()
    {
        for (var seed = 0; seed < 2000; seed++)
        {
            var random = new Random(seed);
            var options = new ConvergenceOptions
            {
                MaxIterations = random.Next(1, 20),
                MinPages = random.Next(0, 200),
                MaxGrowth = random.Next(0, 200),
                MaxDowntime = random.Next(2) == 0 ? null : TimeSpan.FromMilliseconds(random.Next(1, 5000)),
            };
            var history = new List<IterationFigures>();
            ConvergenceVerdict verdict;
            do
            {
                history.Add(Iteration(
                    random.NextInt64(0, 1L << random.Next(1, 40)), random.NextDouble() * 10, history.Count == 0 ? null : random.NextDouble() * 10));
                verdict = ConvergencePolicy.Decide(history, options);
                Assert.True(verdict.Reason.Length > 0, $"seed {seed}");
                Assert.True(verdict.PredictedDowntime is not { } predicted || predicted >= TimeSpan.Zero, $"seed {seed}");
                Assert.NotEqual(IterationDecision.Final, verdict.Decision);
            }
            while (verdict.Decision == IterationDecision.Continue);
            Assert.True(history.Count <= options.MaxIterations, $"seed {seed}: {history.Count} iterations, {options.MaxIterations} allowed");
        }
    }

    [Fact]
    public void A_longer_downtime_is_never_reached_later()
    {
        for (var seed = 0; seed < 500; seed++)
        {
            var random = new Random(seed);
            var history = Enumerable.Range(0, 12)
                .Select(index => Iteration(random.NextInt64(1, 1_000_000), 0.01 + random.NextDouble(), index == 0 ? null : 0.01 + random.NextDouble()))
                .ToArray();
            int EndsAt(int milliseconds) => Enumerable.Range(1, history.Length).First(count =>
                ConvergencePolicy.Decide(
                    history[..count], new ConvergenceOptions { MaxIterations = 12, MaxDowntime = TimeSpan.FromMilliseconds(milliseconds) })
                    .Decision == IterationDecision.HandOver);
            var limit = random.Next(150, 3000);
            Assert.True(EndsAt(limit * 2) <= EndsAt(limit), $"seed {seed}");
        }
    }
}
