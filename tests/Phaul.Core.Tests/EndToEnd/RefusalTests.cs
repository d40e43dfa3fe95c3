// What is refused before anything is touched: the program never stops.

using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

public sealed class RefusalTests(LabFixture lab) : EndToEndTest(lab)
{
    private const int Refused = 3, NotConnected = 6;

    // sysv: memory of the host's IPC namespace, which is not dumped along. io-uring: CRIU has no way to save a ring.
    // inotify: CRIU needs a file handle of what is watched, and /proc has none.
    [SkippableTheory]
    [InlineData("sysv", "SystemVMemory")]
    [InlineData("io-uring", "IoUring")]
    [InlineData("inotify", "Inotify")]
    public async Task WhatCriuCannotDump(string how, string check)
    {
        RequireLab();
        var program = await StartOnAAsync("undumpable", how);
        await ServeAsync();
        var migration = Migrate(program);
        var message = await AssertFailsAsync(migration, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains(check, message);
        Assert.DoesNotContain("Freezing", migration.States);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableFact]
    public async Task PreCopyWhereDirtyMemoryIsNotTrackedAndAutoDoesWithout()
    {
        RequireLab();
        Skip.If(await TracksDirtyMemoryAsync(), "this kernel tracks dirty memory; the tests in guests use that");
        var program = await StartOnAAsync("counter", "8", "20");
        var server = await ServeAsync();

        var precopy = Migrate(program, null, "--mode", "pre-copy");
        var message = await AssertFailsAsync(precopy, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("DirtyTracking", message);
        Assert.Contains("--mode prefetch", precopy.ErrorText);
        Assert.DoesNotContain("PreCopying", precopy.States);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(precopy, server));

        var auto = Migrate(program);
        await AssertSucceedsAsync(auto);
        Assert.Equal("StopAndCopy", auto.Last("result").GetProperty("mode").GetString());
        var warning = auto.Last("warning").GetProperty("message").GetString();
        Assert.Contains("CONFIG_MEM_SOFT_DIRTY", warning);
        Assert.Contains("Boot the source with a kernel", warning);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(auto, server));
    }

    private async Task<bool> TracksDirtyMemoryAsync() => await Lab.A.TryAsync("criu", "check", "--feature", "mem_dirty_track") == 0;

    [SkippableFact]
    public async Task AConnectionThatMayNotBeMoved()
    {
        RequireLab();
        var program = await StartOnAAsync("tcp-pair");
        await ServeAsync();
        var migration = Migrate(program);
        var message = await AssertFailsAsync(migration, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("TcpEstablished", message);
        Assert.Contains("--tcp-established", migration.ErrorText);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableFact]
    public async Task ADestinationThatTheSourceDoesNotTrust()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var server = await ServeAsync();
        var migration = MigrateTo(Lab.A, program, Lab.B.Address, "--trust", Lab.A.Fingerprint);
        await AssertFailsAsync(migration, NotConnected, PhaulErrorId.AuthenticationFailed, ProgramState.RunningOnSource);
        Assert.Empty(server.States);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
    }

    [SkippableFact]
    public async Task ASourceThatTheDestinationDoesNotTrust()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var server = await ListenAsync(Lab.B, "--trust", Lab.B.Fingerprint);
        var migration = Migrate(program);
        await AssertFailsAsync(migration, NotConnected, PhaulErrorId.AuthenticationFailed, ProgramState.RunningOnSource);
        Assert.Empty(server.States);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
    }

    [SkippableFact]
    public async Task NobodyListens()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        var migration = Migrate(program);
        await AssertFailsAsync(migration, NotConnected, PhaulErrorId.ConnectionFailed, ProgramState.RunningOnSource);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableFact]
    public async Task APidThatIsInUseOnTheDestination()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        await ServeAsync();
        var squatter = await Lab.B.RunAsync(
            "sh", "-c", $"echo {program.Pid - 1} > /proc/sys/kernel/ns_last_pid; setsid sleep 1000 > /dev/null 2>&1 & echo $!");
        Assert.Equal($"{program.Pid}", squatter);
        var migration = Migrate(program);
        var message = await AssertFailsAsync(migration, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("FreePids", message);
        Assert.Contains($"{program.Pid}", message);
        Assert.Equal(0, await Lab.B.TryAsync("kill", squatter));
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableTheory]
    [InlineData("a")]
    [InlineData("b")]
    public async Task NoCriu(string host)
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "4", "20");
        await Lab.B.RunAsync("ln", "-s", "/usr/sbin/criu", "/shared/criu");
        await ServeAsync(null, "--criu", host == "b" ? "/shared/criu" : "criu");
        await Lab.B.RunAsync("rm", "/shared/criu");
        var migration = Migrate(program, null, "--criu", host == "a" ? "/shared/criu" : "criu");
        await AssertFailsAsync(migration, Refused, PhaulErrorId.CriuNotFound, ProgramState.RunningOnSource);
        Assert.Equal(host, migration.Last("error").GetProperty("host").GetString());
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration));
    }

    [SkippableFact]
    public async Task AServerWithoutCriuDoesNotStart()
    {
        RequireLab();
        await using var server = PhaulRun.Start(Lab.B, "serve", "--trust", Lab.A.Fingerprint, "--criu", "/does/not/exist");
        Assert.Equal(Refused, await server.ExitAsync());
        Assert.Equal("CriuNotFound", server.Last("error").GetProperty("errorId").GetString());
    }

    [SkippableFact]
    public async Task TooLittleSpaceOnTheDestination()
    {
        RequireLab();
        var program = await StartOnAAsync("counter", "64", "20");
        await Lab.B.RunAsync("sh", "-c", "mkdir -p /small && mount -t tmpfs -o size=100m small /small");
        try
        {
            var server = await ServeAsync(null, "--work-directory", "/small");
            var migration = Migrate(program);
            var message = await AssertFailsAsync(migration, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
            Assert.Contains("Space", message);
            await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
        }
        finally
        {
            await Lab.B.RunAsync("umount", "-l", "/small");
        }
    }

    // By hand with criu, either of these loses the program: the dump has killed it before the restore finds out
    [SkippableTheory]
    [InlineData(null)]
    [InlineData("echo another program > /root/counter; chmod +x /root/counter")]
    public async Task AnOpenFileThatIsMissingOrDiffersOnTheDestination(string? onDestination)
    {
        RequireLab();
        await Lab.B.RunAsync("rm", "-f", "/root/counter");
        await Lab.A.RunAsync("cp", $"{LabFixture.Programs}/counter", "/root/counter");
        if (onDestination is not null)
            await Lab.B.RunAsync("sh", "-c", onDestination);
        var program = await TestProgram.StartAsync(Lab, Lab.A, "/root/counter", "4", "20");
        var server = await ServeAsync();
        var migration = Migrate(program);
        var message = await AssertFailsAsync(migration, Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("/root/counter", message);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
    }

    [SkippableFact]
    public async Task CheckSaysTheSameAndTouchesNothing()
    {
        RequireLab();
        var good = await StartOnAAsync("counter", "4", "20");
        var bad = await StartOnAAsync("undumpable", "sysv");
        var server = await ServeAsync();
        foreach (var (program, code) in ((TestProgram, int)[])[(good, 0), (bad, Refused)])
        {
            await using var check = PhaulRun.Start(Lab.A, "check", $"{program.Pid}", Lab.B.Address, "--trust", Lab.B.Fingerprint);
            var exitCode = await check.ExitAsync();
            Assert.True(exitCode == code, check.Story());
            Assert.Contains(check.Events, line => line.TryGetProperty("side", out var side) && side.GetString() == "Destination");
            await program.AssertRunsOnlyOnAsync(Lab.A, Story(check, server));
        }
    }
}
