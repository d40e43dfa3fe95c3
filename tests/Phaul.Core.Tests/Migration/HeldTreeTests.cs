// A restored tree that dies in the worst moment, with the real CRIU.

using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Native;
using Phaul.Tests.Criu;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Migration;

[Collection(nameof(RealCriuCollection))]
public sealed class HeldTreeTests(RealCriu real) : IDisposable
{
    private readonly TemporaryDirectory _images = new();

    public void Dispose() => _images.Dispose();

    [SkippableFact]
    public async Task ATreeThatDiesWhenItIsToRunIsNotWaitedForForEver()
    {
        await using var criu = new CriuClient(new CriuClientOptions { CriuPath = real.Require() });
        await using var program = await CountingProgram.StartAsync();
        using (var directory = DirectoryDescriptor.Open(_images.Path))
            await criu.DumpAsync(new CriuOpts { Pid = program.Pid, ImagesDirFd = (int)directory.DangerousGetHandle(), LogFile = "dump.log" }).Within();
        await program.Child.WaitForExitAsync(default).Within();
        await using var held = await HeldTree.RestoreEagerlyAsync(criu, _images.Path, new ProcessOptions { LogLevel = 4 }, default).Within();

        // So that it finds nobody when it looks for those that it is to resume
        int restorer = Processes.ParentOf(held.Tree.RootPid);
        Libc.Check(Libc.Kill(restorer, Libc.SignalStop), "kill");
        var resuming = held.ResumeAsync();
        // All of them: a tree of which one lives is given up later, by CRIU's own time-out
        foreach (var member in held.Tree.Members)
        {
            using var process = ProcessDescriptor.TryOpen(member.Pid);
            process?.SendSignal(Libc.SignalKill);
            await (process?.WaitForExitAsync(default) ?? Task.CompletedTask).Within();
        }

        Libc.Check(Libc.Kill(restorer, Libc.SignalContinue), "kill");
        await Assert.ThrowsAsync<CriuException>(() => resuming.Within());
        Assert.Null(held.Look());
        Assert.True(held.DiedHeld);
    }
}
