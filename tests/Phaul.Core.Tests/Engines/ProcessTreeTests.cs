// Capturing trees of real processes, and of made-up ones.

using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Tests.Engines;

public sealed class ProcessTreeTests
{
    [SkippableFact]
    public async Task CapturesProcessesAndThreadsParentsFirst()
    {
        await using var program = await PythonProgram.StartAsync("""
            read, write = os.pipe()
            child = os.fork()
            if child == 0:
                grandchild = sleep_in_child()
                os.write(write, str(grandchild).encode())
                while True: signal.pause()
            grandchild = int(os.read(read, 100))
            other = sleep_in_child()
            thread = threading.Thread(target=signal.pause, daemon=True)
            thread.start()
            ready(child, grandchild, other, thread.native_id)
            """);
        int[] expected = [.. program.Words.Select(int.Parse)];

        var tree = ProcessTree.Capture(program.Pid);

        Assert.Equal(program.Pid, tree.RootPid);
        Assert.Equal(new[] { program.Pid, expected[0], expected[1], expected[2] }.Order(), tree.Members.Select(member => member.Pid)
            .Order());
        Assert.Equal(new[] { program.Pid, expected[3] }.Order(), tree.Root.ThreadIds);
        Assert.Equal("python3", tree.Root.Command[..7]);
        Assert.Equal((program.Pid, program.Pid), (tree.Root.SessionId, tree.Root.ProcessGroupId));
        Assert.Equal(ProcessIdentity.BootId().ToString(), tree.BootId);
        var seen = new HashSet<int>();
        foreach (var member in tree.Members)
        {
            Assert.True(member.Pid == program.Pid || seen.Contains(member.ParentPid), $"{member.Pid} comes before its parent.");
            Assert.Equal(ProcessIdentity.StartTime(member.Pid), member.StartTime);
            seen.Add(member.Pid);
        }
    }

    [SkippableFact]
    public async Task ReadsACommandThatLooksLikeTheRestOfTheLine()
    {
        await using var program = await PythonProgram.StartAsync("""
            libc.prctl(15, b") R 1 1 (a b\n", 0, 0, 0)
            ready()
            """);

        var tree = ProcessTree.Capture(program.Pid);

        Assert.Equal(") R 1 1 (a b\n", tree.Root.Command);
        Assert.Equal(Environment.ProcessId, tree.Root.ParentPid);
    }

    [SkippableFact]
    public async Task SurvivesATreeThatForksAndEndsAllTheTime()
    {
        await using var program = await PythonProgram.StartAsync("""
            if os.fork() == 0:
                while True:
                    if os.fork() == 0: os._exit(0)
                    os.wait()
            ready()
            """);

        int most = 0;
        for (int round = 0; round < 300; round++)
        {
            var tree = ProcessTree.Capture(program.Pid);
            Assert.Equal(program.Pid, tree.Members[0].Pid);
            Assert.InRange(tree.Members.Count, 2, 3);
            most = Math.Max(most, tree.Members.Count);
        }

        Assert.InRange(most, 2, 3);
    }

    [SkippableFact]
    public async Task RefusesWhatCannotBeMoved()
    {
        await using var program = await PythonProgram.StartAsync("""
            thread = threading.Thread(target=signal.pause, daemon=True)
            thread.start()
            ready(thread.native_id)
            """);
        int thread = int.Parse(program.Words[0]);

        AssertRefused("init", 1);
        AssertRefused("not a process id", 0);
        AssertRefused("not a process id", -5);
        AssertRefused("would do the migration", Environment.ProcessId);
        AssertRefused($"thread of process {program.Pid}", thread);
        int parent = ProcStat.Read(ProcFileSystem.Host, Environment.ProcessId)!.ParentPid;
        if (parent > 1) AssertRefused("ancestor", parent);
        if (ProcFileSystem.Host.ReadNumbers("")
            .FirstOrDefault(pid => ProcStat.Read(ProcFileSystem.Host, pid)?.IsKernelThread == true) is > 1 and var kernel)
            AssertRefused("kernel thread", kernel);

        static void AssertRefused(string reason, int pid)
        {
            var refusal = Assert.Throws<PhaulException>(() => ProcessTree.Capture(pid));
            Assert.Equal(PhaulErrorId.InvalidRequest, refusal.ErrorId);
            Assert.Contains(reason, refusal.Message, StringComparison.Ordinal);
        }
    }

    [SkippableFact]
    public async Task DoesNotFindWhatHasEnded()
    {
        int gone;
        await using (var program = await PythonProgram.StartAsync("ready()")) gone = program.Pid;
        Assert.Equal(PhaulErrorId.ProcessNotFound, Assert.Throws<PhaulException>(() => ProcessTree.Capture(gone)).ErrorId);

        await using var parent = await PythonProgram.StartAsync("""
            zombie = os.fork()
            if zombie == 0: os._exit(0)
            os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
            ready(zombie)
            """);
        int zombie = int.Parse(parent.Words[0]);
        Assert.Equal(PhaulErrorId.ProcessNotFound, Assert.Throws<PhaulException>(() => ProcessTree.Capture(zombie)).ErrorId);
        Assert.Contains(zombie, ProcessTree.Capture(parent.Pid).Members.Select(member => member.Pid));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void FindsChildrenWithAndWithoutTheKernelsLists(bool lists)
    {
        using var fake = new FakeProc();
        fake.AddProcess(100, parent: 5, threads: [100, 101]);
        fake.AddProcess(200, parent: 100);
        fake.AddProcess(300, parent: 200);
        fake.AddProcess(400, parent: 7);
        fake.AddProcess(500, parent: 100);
        if (lists)
        {
            fake.Write("100/task/100/children", "500 ");
            fake.Write("100/task/101/children", "200 999 ");
            fake.Write("200/task/200/children", "300 400 "); // 400 is another's by now
            fake.Write("300/task/300/children", "");
            fake.Write("500/task/500/children", "");
        }

        var tree = ProcessTree.Capture(100, fake.Proc, callerPid: 7);

        Assert.Equal([100, 200, 300, 500], tree.Members.Select(member => member.Pid).Order());
        Assert.Equal([100, 101], tree.Root.ThreadIds);
        Assert.Equal("00000000-0000-0000-0000-00000000000b", tree.BootId);
    }
}
