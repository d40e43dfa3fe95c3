// What recovery makes of a journal of a program that was to get its memory from a process that has ended.

using Phaul.Journal;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Tests.Journal;

namespace Phaul.Tests.Recovery;

public sealed class LackingMemoryTests : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly TemporaryState _state = new();
    private readonly string _id = MigrationId.New();

    public void Dispose() => _state.Dispose();

    [Fact]
    public async Task WhatCouldNotBeRestoredIsNotKilled()
    {
        await using var program = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        await WriteAsync([Prepared(program.Pid), new MemoryServed(), new Resuming(), Entered(MigrationState.Running)]);

        var resolution = Assert.Single(await ResolveAsync());

        Assert.Equal((ResolutionOutcome.Unresolved, ProgramState.Unknown), (resolution.Outcome, resolution.ProgramState));
        Assert.Contains("images", resolution.Found, StringComparison.Ordinal);
        Assert.Contains("left alone", resolution.Found, StringComparison.Ordinal);
        Assert.False(program.HasExited);
    }

    [Theory]
    [InlineData("", true)]
    // Something was held by the server alone: it may have been given zeros, and the holder shows nothing
    [InlineData("held once", false)]
    // Somebody had begun to end it
    [InlineData("lost", false)]
    public async Task WhatHasAllItsMemoryIsLeftToRun(string but, bool isHeld)
    {
        var images = Directory.CreateDirectory(Path.Combine(_state.State.Path, "images", "1"));
        await using var holder = DescriptorHolder.Start(images.FullName);
        if (but == "held once")
            await File.WriteAllBytesAsync(Path.Combine(images.FullName, "memory-held-once"), []);
        await using var program = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        await WriteAsync([
            Prepared(program.Pid), new ImagesPlace(images.Parent!.FullName), new MemoryServed(), new Resuming(), Entered(MigrationState.Running),
            .. but == "lost" ? (JournalRecord[])[new MemoryLost()] : [],
        ]);

        var resolution = Assert.Single(await ResolveAsync());

        Assert.False(program.HasExited);
        Assert.Equal(isHeld ? ResolutionOutcome.Settled : ResolutionOutcome.Unresolved, resolution.Outcome);
        Assert.Equal(!isHeld, Assert.Single(await new MigrationHistory(_state.State).ReadAsync()).NeedsResolution);
        if (isHeld)
            Assert.Contains("has all its memory", resolution.Found, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatRanAndHasEndedIsNotRestored()
    {
        var program = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        var prepared = Prepared(program.Pid);
        await program.DisposeAsync();
        await WriteAsync([prepared, new MemoryServed(), new Resuming(), Entered(MigrationState.Running)]);

        var resolution = Assert.Single(await ResolveAsync());

        Assert.Equal((ResolutionOutcome.Settled, ProgramState.Gone), (resolution.Outcome, resolution.ProgramState));
        Assert.Contains("not restored again", resolution.Done, StringComparison.Ordinal);
        Assert.All(await ResolveAsync(), again => Assert.Equal(ResolutionOutcome.AlreadySettled, again.Outcome));
    }

    [Theory]
    [InlineData("served", true)]
    [InlineData("served complete", false)]
    // Restored again, with all memory, before it ran
    [InlineData("served prepared", false)]
    [InlineData("served lost", true)]
    // To replace one that ran: whole only when that is journalled
    [InlineData("served lost prepared", true)]
    [InlineData("served lost prepared complete", false)]
    [InlineData("", false)]
    public async Task WhatIsMissingFollowsFromTheLastWord(string words, bool lacks)
    {
        var prepared = Prepared(Environment.ProcessId);
        await WriteAsync([
            prepared,
            .. words.Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(word => (JournalRecord)(word switch
            {
                "served" => new MemoryServed(),
                "lost" => new MemoryLost(),
                "complete" => new MemoryComplete(),
                _ => prepared,
            })),
            Entered(MigrationState.Running),
        ]);

        var summary = Assert.Single(await new MigrationHistory(_state.State).ReadAsync());

        Assert.Equal(lacks, summary.NeedsResolution);
        Assert.Equal(!lacks, summary.HasLeftovers);
        Assert.Equal(lacks ? ProgramState.Unknown : ProgramState.RunningOnDestination, summary.ProgramState);
    }

    private static StateEntered Entered(MigrationState state) => Sample.Entered(state, MigrationSide.Destination);

    private static Prepared Prepared(int pid) => new(
        pid, ProcessIdentity.BootId().ToString(), [new JournaledProcess(pid, (long)ProcessIdentity.StartTime(pid)!.Value, "sleep")], "/nowhere/1");

    private Task WriteAsync(JournalRecord[] records) => Sample.WriteAsync(
        _state.State, _id, MigrationSide.Destination,
        [
            Sample.Begun(_id, MigrationSide.Destination),
            .. ((MigrationState[])[MigrationState.Accepted, MigrationState.Receiving, MigrationState.Restoring]).Select(Entered),
            .. records[..1], Entered(MigrationState.Prepared), Entered(MigrationState.Committing), .. records[1..],
        ]);

    private async Task<IReadOnlyList<MigrationResolution>> ResolveAsync() =>
        await new MigrationResolver(new ResolveOptions { StateDirectory = _state.State.Path, CriuPath = "/nowhere/criu" }).ResolveAsync(_id).WaitAsync(Failsafe);
}
