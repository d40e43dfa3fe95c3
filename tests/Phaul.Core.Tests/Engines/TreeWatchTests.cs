// Watching real processes end, and only the right ones.

using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Tests.Engines;

public sealed class TreeWatchTests
{
    private const string ParentOfOne = "ready(sleep_in_child())";

    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    [SkippableFact]
    public async Task KillsTheWholeTreeAndSeesItGone()
    {
        await using var program = await PythonProgram.StartAsync(ParentOfOne);
        using var watch = TreeWatch.Open(ProcessTree.Capture(program.Pid));
        Assert.Equal(2, watch.Alive.Count);
        Assert.Empty(watch.Exited);
        Assert.False(await watch.WaitAllExitedAsync(TimeSpan.Zero));

        var waiting = watch.WaitAllExitedAsync(Failsafe);
        Assert.False(waiting.IsCompleted);
        watch.Kill();

        Assert.True(await waiting);
        Assert.Empty(watch.Alive);
        Assert.Equal(2, watch.Exited.Count);
        watch.Kill(); // of the dead it asks nothing
        Assert.True(await watch.WaitAllExitedAsync(TimeSpan.Zero));
    }

    [SkippableFact]
    public async Task CountsAZombieAsExited()
    {
        // The parent never waits for its child, which so stays a zombie for as long as the test looks at it.
        await using var program = await PythonProgram.StartAsync(ParentOfOne);
        int child = int.Parse(program.Words[0]);
        using var watch = TreeWatch.Open(ProcessTree.Capture(program.Pid));
        using (var process = ProcessDescriptor.Open(child))
        {
            process.SendSignal(Libc.SignalKill);
            await process.WaitForExitAsync(CancellationToken.None).WaitAsync(Failsafe);
        }

        Assert.Equal('Z', ProcStat.Read(ProcFileSystem.Host, child)!.State);
        Assert.Equal([child], watch.Exited.Select(member => member.Pid));
        Assert.Equal([program.Pid], watch.Alive.Select(member => member.Pid));

        // The same for a watch that is opened when the process is a zombie already.
        using var late = TreeWatch.Open(ProcessTree.Capture(program.Pid));
        Assert.Equal([child], late.Exited.Select(member => member.Pid));
    }

    [SkippableFact]
    public async Task DoesNotTakeAnotherProcessForAMember()
    {
        await using var program = await PythonProgram.StartAsync("ready()");
        var real = ProcessTree.Capture(program.Pid);
        // As if the pid had been given to this process after the member ended.
        var earlier = new ProcessTree([real.Root with { StartTime = real.Root.StartTime - 1 }], real.BootId);

        using var watch = TreeWatch.Open(earlier);
        Assert.Equal([program.Pid], watch.Exited.Select(member => member.Pid));
        watch.Kill();
        Assert.True(await watch.WaitAllExitedAsync(TimeSpan.Zero));

        using var honest = TreeWatch.Open(real);
        Assert.Single(honest.Alive);
    }

    [SkippableFact]
    public async Task CountsWhatIsGoneBeforeItIsOpenedAsExited()
    {
        ProcessTree tree;
        await using (var program = await PythonProgram.StartAsync(ParentOfOne)) tree = ProcessTree.Capture(program.Pid);
        using var watch = TreeWatch.Open(tree);
        // The child was inherited by init, which may reap it a little later than its death.
        Assert.True(await watch.WaitAllExitedAsync(Failsafe));
        Assert.Equal(2, watch.Exited.Count);
    }

    [SkippableFact]
    public async Task EndsItsWaitAtTheLimitOrWhenCancelled()
    {
        await using var program = await PythonProgram.StartAsync("ready()");
        using var watch = TreeWatch.Open(ProcessTree.Capture(program.Pid));
        Assert.False(await watch.WaitAllExitedAsync(TimeSpan.FromMilliseconds(20)));

        using var cancel = new CancellationTokenSource();
        var waiting = watch.WaitAllExitedAsync(Failsafe, cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => waiting);
        Assert.Single(watch.Alive);
    }

    [SkippableFact]
    public async Task ClosesItsDescriptors()
    {
        await using var program = await PythonProgram.StartAsync(ParentOfOne);
        var tree = ProcessTree.Capture(program.Pid);
        int mine;
        using (TreeWatch.Open(tree))
        {
            mine = Watching(tree);
            Assert.Equal(2, mine);
        }

        Assert.Equal(0, Watching(tree));

        // Descriptors of this process that are pidfds of the tree's processes but for the one that the test's child is held by.
        static int Watching(ProcessTree tree) =>
            ProcFileSystem.Host.ReadNumbers("self/fd")
                .Select(number => ProcFileSystem.Host.ReadText($"self/fdinfo/{number}") ?? "")
                .Sum(text => tree.Members.Count(member =>
                    text.Contains($"\nPid:\t{member.Pid}\n", StringComparison.Ordinal))) - HeldByTheTest(tree);

        // ChildProcess holds one pidfd, and a duplicate of it is waited for.
        static int HeldByTheTest(ProcessTree tree) => tree.Members.Count > 0 ? 2 : 0;
    }
}
