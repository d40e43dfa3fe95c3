// Iterations on a kernel that does not track memory: programs move with most of it there before they are frozen.

using System.Text.Json;
using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

public sealed class PrefetchTests(LabFixture lab) : EndToEndTest(lab)
{
    private const int Cancelled = 130, RolledBack = 4;

    // The first round of the program below takes some ten seconds over it
    private const string SlowRate = "30mbit";

    [SkippableTheory]
    [InlineData("counter 64 40", "")]
    [InlineData("counter 64 40", "--eager-restore")]
    [InlineData("counter 64 40", "--auto-dedup")]
    [InlineData("tree", "")]
    [InlineData("threads", "")]
    [InlineData("forker", "")]
    [InlineData("shifter 1", "")]
    [InlineData("tcp-pair", "--tcp-established")]
    public async Task AProgramMoves(string commandLine, string options)
    {
        RequireLab();
        var (program, _, migration) = await MoveAsync(commandLine, ["--mode", "prefetch", .. options.Split(' ', StringSplitOptions.RemoveEmptyEntries)]);

        Assert.Equal(["Connecting", "Checking", "PreCopying", "Freezing", "Transferring", "Committing", "Completed"], migration.States);
        Assert.Equal("Prefetch", migration.Last("result").GetProperty("mode").GetString());
        var iterations = migration.Events.Where(line => line.GetProperty("event").GetString() == "iteration").ToArray();
        Assert.All(iterations[..^1], iteration => Assert.Equal(0, iteration.GetProperty("frozenMilliseconds").GetDouble()));
        if (program.Name == "counter")
            Assert.InRange(Pages(iterations[^1]), 0, Pages(iterations[0]) / 4);
        Assert.Empty(Directory.GetDirectories(Lab.B.PathOf($"{StateDirectory}/images")));
    }

    [SkippableFact]
    public async Task ADotnetProgramMoves()
    {
        RequireLab();
        var program = await TestProgram.StartAsync(Lab, Lab.A, LabFixture.DotnetCounter);
        var server = await ServeAsync();
        var migration = Migrate(program, null, "--file-locks", "--mode", "prefetch");
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
    }

    [SkippableFact]
    public async Task CancelledWhileItIsReadItWasNeverStopped()
    {
        var (program, server, migration) = await IsReadAsync();
        await Lab.A.SignalAsync("INT", "phaul");
        await AssertFailsAsync(migration, Cancelled, PhaulErrorId.Cancelled, ProgramState.RunningOnSource);
        await AssertRunsOnAsync(program, server, migration);
    }

    [SkippableFact]
    public async Task ALinkLostWhileItIsReadLeavesItRunning()
    {
        var (program, server, migration) = await IsReadAsync();
        await Lab.CutAsync();
        await AssertFailsAsync(migration, RolledBack, PhaulErrorId.ConnectionLost, ProgramState.RunningOnSource);
        await Lab.MendAsync();
        await AssertRunsOnAsync(program, server, migration);
    }

    private async Task<(TestProgram Program, PhaulRun Server, PhaulRun Migration)> IsReadAsync()
    {
        RequireLab();
        await Lab.LimitAsync(SlowRate);
        var program = await StartOnAAsync("counter", "32", "1");
        var server = await ServeAsync();
        var migration = Migrate(program, null, "--mode", "prefetch", "--compression", "off");
        await migration.WaitForBytesAsync(1 << 20);
        return (program, server, migration);
    }

    private async Task AssertRunsOnAsync(TestProgram program, PhaulRun server, PhaulRun migration)
    {
        Assert.Equal(["Connecting", "Checking", "PreCopying", "RolledBack"], migration.States);
        await server.WaitForStateAsync(MigrationState.Discarded);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
    }

    private static long Pages(JsonElement iteration) => iteration.GetProperty("pagesWritten").GetInt64();
}
