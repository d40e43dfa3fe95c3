// Programs that run on the other host before their memory is there.

using System.Globalization;
using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

public sealed class PostCopyTests(LabFixture lab) : EndToEndTest(lab)
{
    private const int CheckFailed = 3, InvalidRequest = 2, Lost = 7;

    // The memory of the program below takes some ten seconds over it
    private const string SlowRate = "30mbit";

    [SkippableTheory]
    [InlineData("counter 64 40")]
    [InlineData("tree")]
    [InlineData("threads")]
    [InlineData("forker")]
    public async Task AProgramMovesBeforeItsMemory(string commandLine)
    {
        RequirePostCopy();
        var (program, _, migration) = await MoveAsync(commandLine, "--mode", "post-copy");

        Assert.Equal(["Connecting", "Checking", "Freezing", "Transferring", "Committing", "Completed"], migration.States);
        var result = migration.Last("result");
        Assert.Equal("PostCopy", result.GetProperty("mode").GetString());
        Assert.Equal(program.Pid, result.GetProperty("destinationPid").GetInt32());
        var iteration = migration.Last("iteration");
        Assert.Equal(iteration.GetProperty("pagesWritten").GetInt64() * 4096, result.GetProperty("pageBytes").GetInt64());
        Assert.InRange(iteration.GetProperty("frozenMilliseconds").GetDouble(), 0.001, result.GetProperty("durationMilliseconds").GetDouble());
        Assert.Equal("", await Lab.A.RunAsync("sh", "-c", "pgrep -l criu || true"));
        Assert.Empty(Directory.GetDirectories(Lab.B.PathOf($"{StateDirectory}/images")));
    }

    [SkippableFact]
    public async Task MemoryIsGatheredBefore()
    {
        RequirePostCopy();
        var program = await StartOnAAsync("counter", "64", "40");
        var server = await ServeAsync();
        var migration = Migrate(program, null, "--mode", "post-copy", "--collapse-memory");
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
        var said = migration.Events.Where(line => line.TryGetProperty("message", out _)).Select(line => line.GetProperty("message").GetString()!).ToArray();
        Skip.If(said.Any(line => line.StartsWith("Not all memory could be gathered", StringComparison.Ordinal)), "the kernel has no huge pages here");
        var gathered = said.Single(line => line.Contains(" MiB are in huge pages", StringComparison.Ordinal));
        Assert.InRange(int.Parse(gathered.Split(' ')[0], CultureInfo.InvariantCulture), 32, 128);
    }

    [SkippableFact]
    public async Task AProgramThatEndsHasMoved()
    {
        var (_, _, migration) = await RunsBeforeItsMemoryAsync();
        await Lab.B.SignalAsync("KILL", "counter");
        await AssertSucceedsAsync(migration);
        Assert.Equal("Completed", migration.States[^1]);
    }

    /// <summary>What CRIU serves goes through a socket that has no name: nobody can connect to it.</summary>
    [SkippableFact]
    public async Task NobodyElseCanReadAPage()
    {
        var (program, server, migration) = await RunsBeforeItsMemoryAsync();
        Assert.NotEqual("", await Lab.A.RunAsync("pgrep", "-x", "criu"));
        Assert.Equal("", await Lab.A.RunAsync("sh", "-c", ListenedToByCriu));
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
    }

    [SkippableFact]
    public async Task ALinkLostAfterTheCommitLosesTheProgramAndSaysSo()
    {
        var (program, server, migration) = await RunsBeforeItsMemoryAsync();
        await Lab.CutAsync();
        await server.WaitForStateAsync(MigrationState.Lost);
        await Lab.MendAsync();
        var message = await AssertFailsAsync(migration, Lost, PhaulErrorId.ProgramLost, ProgramState.Gone);
        Assert.Contains("MiB of its memory had not arrived", message);
        Assert.Equal("Lost", migration.States[^1]);
        Assert.Equal(0, await Lab.A.CountAsync("counter") + await Lab.B.CountAsync("counter"));
        await using var history = PhaulRun.Start(Lab.B, "history", "--newest", "1", "--state-directory", StateDirectory);
        await history.ExitAsync();
        Assert.Equal("Gone", history.Last("migration").GetProperty("programState").GetString());
        Assert.False(history.Last("migration").GetProperty("needsResolution").GetBoolean());
        var images = Assert.Single(Directory.GetDirectories(Lab.B.PathOf($"{StateDirectory}/images")));
        var missing = await File.ReadAllLinesAsync(Path.Combine(images, "missing-memory.txt"));
        Assert.All(missing, line => Assert.Equal($"{program.Pid}", line.Split(' ')[0]));
        Assert.InRange(missing.Sum(BytesOf), 1 << 20, 33 << 20);
    }

    [SkippableTheory]
    [InlineData("--tcp-established")]
    [InlineData("--link-remap")]
    [InlineData("--eager-restore")]
    public async Task WhatItCannotMoveIsRefused(string option)
    {
        RequirePostCopy();
        var program = await StartOnAAsync("counter", "8", "1");
        var migration = Migrate(program, null, "--mode", "post-copy", option);
        await AssertFailsAsync(migration, InvalidRequest, PhaulErrorId.InvalidRequest, ProgramState.RunningOnSource);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableFact]
    public async Task TooFewFilesAreFoundOutBefore()
    {
        RequirePostCopy();
        Skip.If(LabFixture.HasResourceCapability, "with CAP_SYS_RESOURCE CRIU raises its limits by itself");
        var program = await StartOnAAsync("counter", "64", "1");
        await ServeAsync();
        var migration = Own(PhaulRun.StartUnder(
            Lab.A, ["sh", "-c", "ulimit -n 260 && exec \"$@\"", "sh"], "migrate", $"{program.Pid}", "--state-directory", StateDirectory, Lab.B.Address,
            "--trust", Lab.B.Fingerprint, "--mode", "post-copy"));
        var message = await AssertFailsAsync(migration, CheckFailed, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("LatePipes", message);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    // Sockets of CRIU's that somebody could connect to: TCP in state LISTEN, UNIX ones with the flag of a listener, but for that
    // by which CRIU met its parasite
    private const string ListenedToByCriu = """
        for pid in $(pgrep -x criu); do ls -l /proc/$pid/fd | sed -n 's/.*socket:\[\(.*\)\]$/\1/p'; done > /tmp/sockets
        awk '$4 == "0A" { print $10 }' /proc/net/tcp /proc/net/tcp6 | grep -Fxf /tmp/sockets
        awk '$4 == "00010000" && $8 !~ /^@\/?crtools/ { print $7 }' /proc/net/unix | grep -Fxf /tmp/sockets
        true
        """;

    private async Task<(TestProgram Program, PhaulRun Server, PhaulRun Migration)> RunsBeforeItsMemoryAsync()
    {
        RequirePostCopy();
        await Lab.LimitAsync(SlowRate);
        var program = await StartOnAAsync("counter", "32", "1");
        var server = await ServeAsync();
        var migration = Migrate(program, null, "--mode", "post-copy");
        await server.WaitForStateAsync(MigrationState.Running);
        return (program, server, migration);
    }

    private void RequirePostCopy()
    {
        RequireLab();
        Skip.If(Lab.NoPostCopy is not null, Lab.NoPostCopy);
    }

    private static long BytesOf(string line)
    {
        var ends = line.Split(' ')[1].Split('-');
        return long.Parse(ends[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture) - long.Parse(ends[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
