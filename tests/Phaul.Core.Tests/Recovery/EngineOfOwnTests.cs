// What recovery makes of a program that ended in the hands of an engine of the operator's own.

using Phaul.Engines;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Tests.Journal;

namespace Phaul.Tests.Recovery;

public sealed class EngineOfOwnTests : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly TemporaryState _state = new();
    private readonly string _id = MigrationId.New();

    public void Dispose() => _state.Dispose();

    [Theory]
    [InlineData(true, true, ProgramState.RunningOnSource)]
    [InlineData(true, false, ProgramState.Unknown)]
    [InlineData(false, false, ProgramState.Gone)]
    public async Task OnlyTheEngineKnowsWhatBecameOfWhatIsGone(bool hadEngine, bool lives, ProgramState expected)
    {
        await using var program = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        var tree = ProcessTree.Capture(program.Pid).ToRecord();
        if (!lives)
            await program.DisposeAsync();
        await Sample.WriteAsync(
            _state.State, _id, MigrationSide.Source,
            [
                Sample.Begun(_id, MigrationSide.Source), tree, Entered(MigrationState.Connecting), Entered(MigrationState.Checking),
                .. hadEngine ? (JournalRecord[])[new EngineOfOwn()] : [], Entered(MigrationState.Freezing),
            ]);

        var resolution = Assert.Single(await new MigrationResolver(
            new ResolveOptions { StateDirectory = _state.State.Path, CriuPath = "/nowhere/criu" }).ResolveAsync(_id).WaitAsync(Failsafe));

        Assert.Equal((ResolutionOutcome.Settled, MigrationState.RolledBack, expected), (resolution.Outcome, resolution.State, resolution.ProgramState));
        Assert.Equal(lives, !program.HasExited);
    }

    private static StateEntered Entered(MigrationState state) => Sample.Entered(state, MigrationSide.Source);
}
