// Programs of all kinds move between two hosts, and prove that they are the same ones there.

using System.Text.Json;
using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

public sealed class MoveTests(LabFixture lab) : EndToEndTest(lab)
{
    [SkippableTheory]
    [InlineData("counter 64 40", "")]
    [InlineData("tree", "")]
    [InlineData("threads", "")]
    [InlineData("forker", "")]
    [InlineData("tcp-pair", "--tcp-established")]
    public async Task AProgramMoves(string commandLine, string options)
    {
        RequireLab();
        // Uncompressed, there are no fewer bytes on the wire than in the pages
        var (program, server, migration) = await MoveAsync(commandLine, ["--compression", "off", .. options.Split(' ', StringSplitOptions.RemoveEmptyEntries)]);

        Assert.Equal(["Connecting", "Checking", "Freezing", "Transferring", "Committing", "Completed"], migration.States);
        await server.WaitForStateAsync(MigrationState.Running);
        Assert.Equal(["Accepted", "Receiving", "Restoring", "Prepared", "Committing", "Running"], server.States);
        var result = migration.Last("result");
        Assert.Equal(program.Pid, result.GetProperty("destinationPid").GetInt32());
        Assert.Equal("RunningOnDestination", result.GetProperty("programState").GetString());
        Assert.InRange(result.GetProperty("downtimeMilliseconds").GetDouble(), 0.001, result.GetProperty("durationMilliseconds").GetDouble());
        var pages = migration.Last("iteration").GetProperty("pagesWritten").GetInt64();
        Assert.Equal(pages, result.GetProperty("pagesWritten").GetInt64());
        Assert.InRange(result.GetProperty("pageBytes").GetInt64(), pages * 4096, result.GetProperty("bytesSent").GetInt64());
    }

    [SkippableFact]
    public async Task ADotnetProgramMoves()
    {
        RequireLab();
        var program = await TestProgram.StartAsync(Lab, Lab.A, LabFixture.DotnetCounter);
        var server = await ServeAsync();
        var migration = Migrate(program, null, "--file-locks");
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
    }

    [SkippableFact]
    public async Task AProgramMovesThereAndBackAgain()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "16", "20");
        var (serverA, serverB) = (await ServeAsync(Lab.A), await ServeAsync(Lab.B));
        for (var round = 0; round < 2; round++)
        {
            var there = Migrate(program, Lab.A);
            await AssertSucceedsAsync(there);
            await program.AssertRunsOnlyOnAsync(Lab.B, Story(there, serverB));
            var back = Migrate(program, Lab.B);
            await AssertSucceedsAsync(back);
            await program.AssertRunsOnlyOnAsync(Lab.A, Story(back, serverA));
        }
    }

    [SkippableFact]
    public async Task SeveralProgramsMoveAtTheSameTime()
    {
        RequireLab();
        TestProgram[] programs = [await StartOnAAsync("counter", "16", "20"), await StartOnAAsync("tree"), await StartOnAAsync("threads")];
        var server = await ServeAsync();
        var migrations = programs.Select(program => Migrate(program)).ToArray();
        foreach (var (program, migration) in programs.Zip(migrations))
        {
            await AssertSucceedsAsync(migration);
            await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
        }
    }

    [SkippableFact]
    public async Task AUnixSocketCarriesAMigration()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var server = await ListenAsync(Lab.B, "--unix", "/shared/phaul.socket");
        var migration = MigrateTo(Lab.A, program, "--unix", "/shared/phaul.socket");
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
    }

    [SkippableFact]
    public async Task WhoIsTrustedCanLieInAFileOnTheHost()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        try
        {
            foreach (var (host, other) in ((LabHost, LabHost)[])[(Lab.A, Lab.B), (Lab.B, Lab.A)])
                await host.RunAsync("sh", "-c", $"mkdir /etc/phaul/trusted && echo '{other.Fingerprint} # the other' > /etc/phaul/trusted/other");
            var server = await ListenAsync(Lab.B);
            var migration = MigrateTo(Lab.A, program, Lab.B.Address);
            await AssertSucceedsAsync(migration);
            await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
        }
        finally
        {
            await Lab.A.RunAsync("rm", "-r", "/etc/phaul/trusted");
            await Lab.B.RunAsync("rm", "-r", "/etc/phaul/trusted");
        }
    }

    [SkippableFact]
    public async Task ImagesAreKeptIfAskedForAndRemovedIfNot()
    {
        RequireLab();
        await ServeAsync();
        foreach (var keep in (bool[])[true, false])
        {
            var program = await StartOnAAsync("counter", "4", "20");
            var migration = Migrate(program, null, keep ? ["--keep-images"] : []);
            await AssertSucceedsAsync(migration);
            var id = migration.Last("result").GetProperty("migrationId").GetString();
            foreach (var host in (LabHost[])[Lab.A, Lab.B])
            {
                // The server removes them when the program has its memory, which the source does not wait for
                var find = $"find {StateDirectory}/images -path '*{id}*' -name 'core-*.img' | wc -l";
                var found = await host.RunAsync("sh", "-c", keep ? find : $"for i in $(seq 200); do n=$({find}); [ $n = 0 ] && break; sleep 0.1; done; echo $n");
                Assert.True(found == (keep ? "1" : "0"), $"{found} core images on {host.Name}, keep: {keep}");
            }

            Assert.Equal(keep, migration.Last("result").TryGetProperty("imagesDirectory", out _));
            await Lab.B.RunAsync("kill", "-KILL", $"{program.Pid}");
        }
    }

    [SkippableFact]
    public async Task CriusLogsOfBothHostsCanBeFollowed()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var server = await ServeAsync(null, "--criu-log");
        var migration = Migrate(program, null, "--criu-log", "--log-level", "4");
        await AssertSucceedsAsync(migration);
        await server.WaitForAsync("the end of the restore", line => LinesOf(line).Contains("Restore finished", StringComparison.Ordinal));
        await migration.WaitForAsync("the end of the dump", line => LinesOf(line).Contains("Dumping finished", StringComparison.Ordinal));

        static string LinesOf(JsonElement e) =>
            e.GetProperty("event").GetString() == "criuLog" ? e.GetProperty("line").GetString()! : "";
    }

    [SkippableFact]
    public async Task AServerThatIsToldToStopLeavesWhatHasArrivedRunning()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var server = await ServeAsync();
        var migration = Migrate(program);
        await AssertSucceedsAsync(migration);
        await Lab.B.SignalAsync("TERM", "phaul");
        Assert.Equal(0, await server.ExitAsync());
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
    }
}
