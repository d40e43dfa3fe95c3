// Whatever fails, and whenever: the error says what, and where the program is. That everything may be killed: Faults.

using System.Text.Json;
using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

/// <summary>
/// The moments are caught by events, over a link with latency: what one side does when it hears of the other comes
/// <see cref="Latency"/> later, which is when the tests act. That the moment was the right one is checked afterwards.
/// </summary>
public sealed class FailureTests(LabFixture lab) : EndToEndTest(lab)
{
    private const int Cancelled = 130, RolledBack = 4, NotConnected = 6;

    private static readonly TimeSpan Latency = TimeSpan.FromSeconds(1.5);

    public enum Moment
    {
        /// <summary>Both sides talk, nothing is frozen.</summary>
        BeforeDump,

        /// <summary>Frozen; memory is on its way.</summary>
        DuringPages,

        /// <summary>Frozen; the other images are on their way.</summary>
        DuringImages,

        /// <summary>Restored and held on the destination; the source does not know yet.</summary>
        Prepared,
    }

    [SkippableTheory]
    [InlineData(Moment.BeforeDump)]
    [InlineData(Moment.DuringPages)]
    [InlineData(Moment.DuringImages)]
    [InlineData(Moment.Prepared)]
    public async Task TheLinkIsCut(Moment moment)
    {
        RequireLab();
        var (program, server, migration) = await BeginAsync();
        await ComeToAsync(moment, server, migration);
        await Lab.CutAsync();
        await AssertRolledBackAsync(moment, migration, PhaulErrorId.ConnectionLost);
        await Lab.MendAsync();
        await EndServerAsync(server);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
        AssertCameTo(moment, server);
    }

    [SkippableTheory]
    [InlineData(Moment.BeforeDump, "INT")]
    [InlineData(Moment.DuringPages, "TERM")]
    [InlineData(Moment.DuringImages, "INT")]
    [InlineData(Moment.Prepared, "INT")]
    public async Task TheUserCancels(Moment moment, string signal)
    {
        RequireLab();
        var (program, server, migration) = await BeginAsync();
        await ComeToAsync(moment, server, migration);
        await Lab.A.SignalAsync(signal, "phaul");
        await AssertFailsAsync(migration, Cancelled, PhaulErrorId.Cancelled, ProgramState.RunningOnSource);
        Assert.Equal("RolledBack", migration.States[^1]);
        // Before the dump the destination need not even have heard of it
        if (moment != Moment.BeforeDump)
            await server.WaitForStateAsync(MigrationState.Discarded);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
        AssertCameTo(moment, server);
    }

    [SkippableTheory]
    [InlineData(Moment.DuringPages)]
    [InlineData(Moment.DuringImages)]
    [InlineData(Moment.Prepared)]
    public async Task TheServerIsToldToStop(Moment moment)
    {
        RequireLab();
        var (program, server, migration) = await BeginAsync();
        await ComeToAsync(moment, server, migration);
        await EndServerAsync(server);
        if (moment == Moment.Prepared)
        {
            // What is prepared is finished, as its source may have let go of the program already
            await AssertSucceedsAsync(migration);
            await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
            return;
        }

        await AssertRolledBackAsync(moment, migration, PhaulErrorId.ConnectionLost);
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
        AssertCameTo(moment, server);
    }

    // The source tree is dead, Commit is under way and does not arrive: the destination must get it later all the same
    [SkippableFact]
    public async Task AProgramWhoseMemoryDoesNotComeIsRestoredAgain()
    {
        RequireLab();
        var (program, server, migration) = await BeginAsync();
        // Held, it has what the restore itself touches; from here on it gets nothing more
        await ComeToAsync(Moment.Prepared, server, migration);
        await Lab.B.RunAsync("pkill", "-STOP", "-f", "criu lazy-pages");
        await AssertSucceedsAsync(migration);
        await Lab.LimitAsync("10gbit");

        // Nor may it be moved on: CRIU would take zeros for its memory
        await ServeAsync(Lab.A);
        const int Refused = 3;
        var message = await AssertFailsAsync(Migrate(program, Lab.B), Refused, PhaulErrorId.CheckFailed, ProgramState.RunningOnSource);
        Assert.Contains("userfaultfd", message, StringComparison.Ordinal);

        await Lab.B.RunAsync("pkill", "-KILL", "-f", "criu lazy-pages");
        await server.WaitForAsync("a warning", line => line.GetProperty("event").GetString() == "warning"
            && line.GetProperty("message").GetString()!.Contains("restored again", StringComparison.Ordinal));
        await program.WaitForStepsAsync(100);
        await program.VerifyAsync(Lab.B);
        Assert.Equal(1, await Lab.B.CountAsync(program.Name));
        Assert.Equal(0, await Lab.A.CountAsync(program.Name));
    }

    [SkippableFact]
    public async Task TheLinkIsCutBetweenTheCommitAndItsArrival()
    {
        RequireLab();
        var (program, server, migration) = await BeginAsync(relayOnSource: true);
        await migration.WaitForStateAsync(MigrationState.Committing);
        await Lab.CutAsync();
        await server.WaitForStateAsync(MigrationState.InDoubt);
        await Lab.MendAsync();
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
        Assert.Equal("Running", server.States[^1]);
    }

    [SkippableFact]
    public async Task TheDiskOfTheDestinationFillsMeanwhile()
    {
        RequireLab();
        await Lab.B.RunAsync("sh", "-c", "mkdir -p /small && mount -t tmpfs -o size=300m small /small");
        try
        {
            var program = await StartOnAAsync("counter", "64", "20");
            await Lab.LimitAsync("100mbit");
            var server = await ServeAsync(null, "--work-directory", "/small");
            var migration = Migrate(program);
            await migration.WaitForBytesAsync(1 << 20);
            await Lab.B.TryAsync("dd", "if=/dev/zero", "of=/small/filler", "bs=1M");
            await AssertFailsAnyhowAsync(migration, RolledBack);
            await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
        }
        finally
        {
            await Lab.B.RunAsync("umount", "-l", "/small");
        }
    }

    // By hand with criu this loses the program: the restore finds out when the source is dead
    [SkippableFact]
    public async Task AnOpenFileVanishesOnTheDestinationAfterTheChecks()
    {
        RequireLab();
        foreach (var host in (LabHost[])[Lab.A, Lab.B])
            await host.RunAsync("cp", "-p", $"{LabFixture.Programs}/counter", "/root/counter");
        var program = await TestProgram.StartAsync(Lab, Lab.A, "/root/counter", "4", "20");
        var server = await ServeAsync();
        await using var link = await SlowLink.StartAsync(Lab.B, Lab.B, Latency);
        var migration = Migrate(program, null, "--port", $"{SlowLink.Port}");
        await migration.WaitForStateAsync(MigrationState.Transferring);
        await Lab.B.RunAsync("rm", "/root/counter");
        await AssertFailsAsync(migration, RolledBack, PhaulErrorId.RestoreFailed, ProgramState.RunningOnSource);
        var error = migration.Last("error");
        Assert.Equal("b", error.GetProperty("host").GetString());
        Assert.Contains(error.GetProperty("criuLog").EnumerateArray(), line => line.GetString()!.Contains("root/counter", StringComparison.Ordinal));
        await program.AssertRunsOnlyOnAsync(Lab.A, Story(migration, server));
    }

    private async Task<(TestProgram Program, PhaulRun Server, PhaulRun Migration)> BeginAsync(bool relayOnSource = false)
    {
        var program = await StartOnAAsync("counter", "8", "20");
        var server = await ServeAsync();
        Own(await SlowLink.StartAsync(relayOnSource ? Lab.A : Lab.B, Lab.B, Latency));
        await Lab.LimitAsync("50mbit");
        var relay = relayOnSource ? Lab.A.Address : Lab.B.Address;
        return (program, server, MigrateTo(Lab.A, program, relay, "--port", $"{SlowLink.Port}", "--trust", Lab.B.Fingerprint));
    }

    private static async Task ComeToAsync(Moment moment, PhaulRun server, PhaulRun migration)
    {
        _ = moment switch
        {
            Moment.BeforeDump => await migration.WaitForStateAsync(MigrationState.Checking),
            Moment.DuringPages => await migration.WaitForBytesAsync(2 << 20),
            Moment.DuringImages => await migration.WaitForStateAsync(MigrationState.Transferring),
            Moment.Prepared => await server.WaitForStateAsync(MigrationState.Prepared),
            _ => throw new ArgumentOutOfRangeException(nameof(moment)),
        };
    }

    // The test acted at the moment that it is about, and not later
    private static void AssertCameTo(Moment moment, PhaulRun server)
    {
        var states = server.States;
        Assert.Equal(moment == Moment.Prepared, states.Contains("Prepared"));
        if (moment is Moment.BeforeDump or Moment.DuringPages or Moment.DuringImages)
            Assert.DoesNotContain("Restoring", states);
        Assert.DoesNotContain("Running", states);
    }

    private async Task AssertRolledBackAsync(Moment moment, PhaulRun migration, PhaulErrorId error)
    {
        await AssertFailsAsync(migration, moment == Moment.BeforeDump ? NotConnected : RolledBack, error, ProgramState.RunningOnSource);
        Assert.Equal("RolledBack", migration.States[^1]);
        Assert.DoesNotContain("Committing", migration.States);
    }

    // What breaks first when a disk is full is not ours to say
    private async Task AssertFailsAnyhowAsync(PhaulRun migration, int exitCode)
    {
        var code = await migration.ExitAsync();
        Assert.True(code == exitCode, $"exit code {code} instead of {exitCode}. {migration.Story()}");
        JsonElement error = migration.Last("error");
        Assert.Equal("RunningOnSource", error.GetProperty("programState").GetString());
        Assert.Equal("b", error.GetProperty("host").GetString());
    }

    private async Task EndServerAsync(PhaulRun server)
    {
        await Lab.B.SignalAsync("TERM", "phaul");
        var code = await server.ExitAsync();
        Assert.True(code == 0, $"the server ended with {code}. {server.Story()}");
    }
}
