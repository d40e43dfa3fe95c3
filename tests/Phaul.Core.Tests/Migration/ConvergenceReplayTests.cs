// Real migrations replayed: what each policy would have done with them. docs/convergence.md has the table, and this makes it.

using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;

namespace Phaul.Tests.Migration;

/// <summary>
/// A trace is what `phaul migrate --json` said of a migration that iterated longer than any policy would (figures/programs of the
/// guests' job). Start times are the sums of the durations before: iterations follow each other at once. After n of its iterations, the final dump would have moved what iteration n + 1 did.
/// </summary>
public sealed class ConvergenceReplayTests
{
    private sealed record Trace(string Name, IReadOnlyList<IterationFigures> Iterations);

    private sealed record Outcome(int Iterations, long Bytes, TimeSpan FrozenMove, string Reason);

    private static readonly (string Name, Func<IReadOnlyList<IterationFigures>, ConvergenceVerdict> Decide)[] Policies =
    [
        // As it is run: the growth rule compares the first iteration with nothing
        ("P.Haul in Go", history => ConvergencePolicy.Decide(history, new ConvergenceOptions { MaxIterations = 1 })),
        ("default", history => ConvergencePolicy.Decide(history, new ConvergenceOptions())),
        ("MaxDowntime 500 ms", history => ConvergencePolicy.Decide(history, new ConvergenceOptions { MaxDowntime = TimeSpan.FromMilliseconds(500) })),
        ("MaxDowntime 2 s", history => ConvergencePolicy.Decide(history, new ConvergenceOptions { MaxDowntime = TimeSpan.FromSeconds(2) })),
    ];

    [Fact]
    public void The_table_in_the_documentation_is_what_the_policies_do()
    {
        var table = new StringBuilder("| trace | policy | iterations | MiB moved | of it frozen | frozen for moving | why it ended |\n|---|---|---:|---:|---:|---:|---|\n");
        foreach (var trace in Traces())
        {
            foreach (var (name, decide) in Policies)
            {
                var outcome = Replay(trace, decide);
                var last = trace.Iterations[outcome.Iterations];
                table.Append(CultureInfo.InvariantCulture,
                    $"| {trace.Name} | {name} | {outcome.Iterations} | {outcome.Bytes / 1048576.0:0.0} | {last.BytesSent / 1048576.0:0.0} | {outcome.FrozenMove.TotalMilliseconds:0} ms | {outcome.Reason} |\n");
            }
        }

        var documented = File.ReadAllText(Path.Combine(Repository(), "docs", "convergence.md"));
        Assert.True(documented.Contains(table.ToString(), StringComparison.Ordinal), $"docs/convergence.md must have:\n{table}");
    }

    [Fact]
    public void Iterating_never_leaves_more_to_move_while_frozen_than_not_iterating()
    {
        foreach (var trace in Traces())
        {
            var all = trace.Iterations[0].BytesSent;
            foreach (var (name, decide) in Policies)
            {
                var left = trace.Iterations[Replay(trace, decide).Iterations].BytesSent;
                Assert.True(left <= all * 1.01, $"{trace.Name}, {name}: {left} of {all} bytes are left");
            }
        }
    }

    [Fact]
    public void A_prediction_is_not_less_than_half_of_what_moving_then_took()
    {
        foreach (var trace in Traces())
        {
            for (var count = 2; count < trace.Iterations.Count; count++)
            {
                var predicted = ConvergencePolicy.Decide([.. trace.Iterations.Take(count)], new ConvergenceOptions()).PredictedDowntime!.Value;
                var moving = FrozenMove(trace, count);
                Assert.True(predicted >= moving / 2, $"{trace.Name} after {count}: {predicted} predicted, {moving} it takes");
            }
        }
    }

    private static Outcome Replay(Trace trace, Func<IReadOnlyList<IterationFigures>, ConvergenceVerdict> decide)
    {
        for (var count = 1; count < trace.Iterations.Count; count++)
        {
            var verdict = decide([.. trace.Iterations.Take(count)]);
            if (verdict.Decision == IterationDecision.HandOver)
                return new Outcome(count, trace.Iterations.Take(count + 1).Sum(iteration => iteration.BytesSent), FrozenMove(trace, count), verdict.Reason);
        }

        throw new InvalidOperationException($"{trace.Name} is too short for this policy.");
    }

    private static TimeSpan FrozenMove(Trace trace, int count) =>
        TimeSpan.FromSeconds(trace.Iterations[count].BytesSent / trace.Iterations.Take(count).Max(iteration => iteration.BytesPerSecond));

    private static IEnumerable<Trace> Traces() =>
        Directory.EnumerateFiles(Path.Combine(Repository(), "tests", "Phaul.Core.Tests", "Migration", "Traces"), "*.jsonl").Order(StringComparer.Ordinal).Select(Read);

    private static Trace Read(string path)
    {
        var iterations = new List<IterationFigures>();
        DateTimeOffset? previous = null;
        foreach (var line in File.ReadLines(path))
        {
            using var document = JsonDocument.Parse(line);
            var e = document.RootElement;
            var start = e.GetProperty("startTime").GetDateTimeOffset();
            iterations.Add(new IterationFigures(
                e.GetProperty("pagesWritten").GetInt64(), e.GetProperty("bytesSent").GetInt64(),
                TimeSpan.FromMilliseconds(e.GetProperty("durationMilliseconds").GetDouble()),
                TimeSpan.FromMilliseconds(e.GetProperty("frozenMilliseconds").GetDouble()), start - previous));
            previous = start;
        }

        return new Trace(Path.GetFileNameWithoutExtension(path), iterations);
    }

    private static string Repository([CallerFilePath] string sourceFile = "")
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Phaul.sln")))
            directory = directory.Parent;
        return directory?.FullName ?? throw new InvalidOperationException($"the repository of {sourceFile} is not above {AppContext.BaseDirectory}");
    }
}
