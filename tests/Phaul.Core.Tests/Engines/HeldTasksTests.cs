// Telling a held tree from a running one, where that can be told.

using Phaul.Engines;
using Phaul.Procfs;

namespace Phaul.Tests.Engines;

public sealed class HeldTasksTests : IDisposable
{
    private const string Maps =
        """
        10000-20000 r-xp 00000000 00:00 0
        30000-31000 rw-s 00000000 00:01 7 /dev/zero (deleted)
        400000-500000 r-xp 00000000 08:01 99 /usr/bin/counter
        """;

    private const string HeldCall = "202 0x30010 0x0 0x1 0x0 0x0 0x0 0x7ffc0000 0x10123";

    private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("phaul-proc-");

    public void Dispose() => _root.Delete(recursive: true);

    [Fact]
    public void ATaskThatSleepsInCriusCodeIsHeld() => Assert.Equal(TreeHold.Held, Look((7, HeldCall, Maps)));

    [Theory]
    [InlineData("running")]
    [InlineData("-1 0x0 0x0")]
    [InlineData("202 0x30010 0x0 0x1 0x0 0x0 0x0 0x7ffc0000 0x400123")]
    public void OthersAreNot(string call) => Assert.Equal(TreeHold.Running, Look((7, call, Maps)));

    [Fact]
    public void OneHeldTaskHoldsItsTree() => Assert.Equal(TreeHold.Held, Look((7, "running", Maps), (8, HeldCall, Maps)));

    [Fact]
    public void WhatCannotBeReadIsUnknownWhateverTheOthersDo()
    {
        Assert.Equal(TreeHold.Unknown, Look((7, null, Maps), (8, HeldCall, Maps)));
        Assert.Equal(TreeHold.Unknown, Look((9, HeldCall, null)));
    }

    [Fact]
    public void OneThatIsGoneIsNotUnknown() => Assert.Equal(TreeHold.Running, HeldTasks.Look([4711], new ProcFileSystem(_root.FullName)));

    private TreeHold Look(params (int Pid, string? Call, string? Maps)[] tasks)
    {
        foreach (var (pid, call, maps) in tasks)
        {
            var directory = _root.CreateSubdirectory($"{pid}").FullName;
            File.WriteAllText(
                Path.Combine(directory, "stat"), $"{pid} (x) S 1 {pid} {pid} 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0");
            if (call is not null)
                File.WriteAllText(Path.Combine(directory, "syscall"), call + "\n");
            if (maps is not null)
                File.WriteAllText(Path.Combine(directory, "maps"), maps + "\n");
        }

        return HeldTasks.Look(tasks.Select(task => task.Pid), new ProcFileSystem(_root.FullName));
    }
}
