// Everything fails once at every moment: exactly one program afterwards, not a step lost or repeated, nothing left behind.

using Phaul.Tests.Lab;
using Xunit.Abstractions;

namespace Phaul.Tests.Faults;

/// <summary>The matrix, and (by `build.sh chaos`) random moments.</summary>
[Collection(LabCollection.Name)]
public sealed class FaultMatrixTests(LabFixture lab, ITestOutputHelper output)
{
    [SkippableFact]
    public Task EveryCellOnce()
    {
        Skip.If(lab.Unavailable is not null, lab.Unavailable);
        return RunAsync("fault-matrix", Wanted(Fault.All));
    }

    [SkippableFact]
    public Task EveryCellWhileMemoryStaysBehind()
    {
        Skip.If(lab.Unavailable is not null, lab.Unavailable);
        Skip.If(lab.NoPostCopy is not null, lab.NoPostCopy);
        return RunAsync("fault-matrix of PostCopy", Wanted(Fault.OfPostCopy));
    }

    [SkippableFact]
    public Task EveryCellWhileMemoryIsCompared()
    {
        Skip.If(lab.Unavailable is not null, lab.Unavailable);
        return RunAsync("fault-matrix of Prefetch", Wanted(Fault.OfPrefetch));
    }

    // Some of them, while something is being looked for: parts of their names, with | between
    private static IEnumerable<Fault> Wanted(IEnumerable<Fault> faults)
    {
        var only = Environment.GetEnvironmentVariable("PHAUL_FAULT_CELLS");
        return faults.Where(fault => only is null || only.Split('|').Any(part => $"{fault}".Contains(part, StringComparison.OrdinalIgnoreCase)));
    }

    [SkippableFact]
    public Task RandomMoments()
    {
        Skip.If(lab.Unavailable is not null, lab.Unavailable);
        var rounds = Environment.GetEnvironmentVariable("PHAUL_CHAOS_ROUNDS");
        Skip.If(rounds is null, "build.sh chaos runs it");
        var seed = int.Parse(Environment.GetEnvironmentVariable("PHAUL_CHAOS_SEED") ?? $"{Environment.TickCount & 0xffff}");
        return RunAsync($"chaos, seed {seed}", Random(new Random(seed), int.Parse(rounds!)));
    }

    private static IEnumerable<Fault> Random(Random random, int rounds)
    {
        for (var round = 0; round < rounds; round++)
        {
            var kind = Fault.All[random.Next(Fault.All.Count)];
            // Mostly just after a record, where little time passes between two steps; sometimes anywhere
            var delay = random.Next(4) == 0 ? random.Next(1000) : random.Next(25);
            yield return kind with { Moment = (Moment)random.Next(Enum.GetValues<Moment>().Length), Delay = TimeSpan.FromMilliseconds(delay) };
        }
    }

    private async Task RunAsync(string title, IEnumerable<Fault> faults)
    {
        var report = Environment.GetEnvironmentVariable("PHAUL_FAULT_REPORT");
        void Write(string line)
        {
            output.WriteLine(line);
            if (report is not null)
                File.AppendAllText(report, line + "\n");
        }

        var run = new FaultRun(lab);
        var (rounds, missed, failures) = (0, 0, new List<string>());
        await run.PrepareAsync();
        try
        {
            Write($"{title}\n{"fault",-66} on  resolved   time  result");
            foreach (var fault in faults)
            {
                var outcome = await run.RunAsync(fault);
                rounds++;
                missed += outcome.Hit ? 0 : 1;
                var result = outcome.Failure is not null ? "FAILED" : outcome.Where == FaultRun.Nowhere ? "lost, and both sides say so" : outcome.FromTheHandOver ? "one program, no step lost; on from the hand-over" : outcome.Hit ? "one program, no step lost or repeated" : "came too late; the same";
                Write($"{fault,-66} {outcome.Where,-2}  {outcome.Resolved,8}  {outcome.Elapsed.TotalSeconds,4:0.0}s  {result}");
                if (outcome.Failure is { } failure)
                {
                    failures.Add($"{fault}: {failure}");
                    Write(failure);
                }
            }

            Write($"{rounds} faults, {rounds - missed} in time, {failures.Count} failed");
        }
        finally
        {
            await run.EndAsync();
        }

        Assert.True(failures.Count == 0, string.Join("\n", failures));
    }
}
