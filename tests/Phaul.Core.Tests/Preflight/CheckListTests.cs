// Every check gives one result, in order and in bounded time, whatever the others do.

using Phaul.Preflight;

namespace Phaul.Tests.Preflight;

public sealed class CheckListTests
{
    [Fact]
    public async Task OneCheckDoesNotStopTheOthers()
    {
        var checks = new CheckList(MigrationSide.Source, "here", TimeSpan.FromSeconds(2));
        using var release = new ManualResetEventSlim();
        checks.Add("Throws", IEnumerable<Finding> (_) => throw new InvalidOperationException("broken"));
        checks.Add("NeverEnds", async token =>
        {
            await Task.Delay(Timeout.Infinite, token);
            return [];
        });
        // Deaf to its token, as a look at a file on a dead network file system is.
        checks.Add("Blocks", _ =>
        {
            release.Wait();
            return [];
        });
        checks.Add("Quiet", _ => []);
        checks.Add("Fails", _ => [new Finding(CheckVerdict.Warning, "W.", "R1."), new Finding(CheckVerdict.Failed, "F.", "R2."),
            new Finding(CheckVerdict.Passed, "P.")]);
        checks.Add("Skips", _ => [new Finding(CheckVerdict.Skipped, "S.")]);

        var results = await checks.RunAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60));
        release.Set();

        Assert.Equal(["Throws", "NeverEnds", "Blocks", "Quiet", "Fails", "Skips"], results.Select(result => result.Name));
        Assert.Equal(
            [CheckVerdict.Warning, CheckVerdict.Warning, CheckVerdict.Warning, CheckVerdict.Passed, CheckVerdict.Failed,
                CheckVerdict.Skipped],
            results.Select(result => result.Verdict));
        Assert.Contains("broken", results[0].Message, StringComparison.Ordinal);
        Assert.Equal(("F. W.", "R2. R1."), (results[4].Message, results[4].Remedy));
        Assert.All(results, result => Assert.Equal((MigrationSide.Source, "here"), (result.Side, result.Host)));
    }

    [Fact]
    public async Task NamesTheFirstAndCountsTheRest()
    {
        var checks = new CheckList(MigrationSide.Destination, "there", TimeSpan.FromSeconds(60));
        checks.Add("Many", _ => Enumerable.Range(1, 12).Select(number => new Finding(CheckVerdict.Failed, $"F{number}.", "Same.")));
        var result = Assert.Single(await checks.RunAsync(CancellationToken.None));
        Assert.Equal(("F1. F2. F3. F4. F5. And 7 more.", "Same."), (result.Message, result.Remedy));
    }

    [Fact]
    public async Task IsGivenUpWhenCancelled()
    {
        var checks = new CheckList(MigrationSide.Source, "here", TimeSpan.FromMinutes(10));
        using var cancel = new CancellationTokenSource();
        checks.Add("NeverEnds", async token =>
        {
            await cancel.CancelAsync();
            await Task.Delay(Timeout.Infinite, token);
            return [];
        });
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => checks.RunAsync(cancel.Token));
    }
}
