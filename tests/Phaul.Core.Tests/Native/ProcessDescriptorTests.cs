// Pidfds: the end of any process, and identity by start time and boot.
using Phaul.Native;

namespace Phaul.Tests.Native;

public sealed class ProcessDescriptorTests
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task It_tells_the_end_of_a_process_and_of_a_zombie()
    {
        // The shell never waits for its child: that stays a zombie.
        await using var parent = ChildProcess.Start(new ProcessStart
        {
            File = "bash",
            Arguments = ["-c", "read -t 600 <> <(:) & echo $!; exec sleep 600"],
        });
        int pid;
        using var failsafe = new CancellationTokenSource(Failsafe);
        while (!int.TryParse(parent.OutputTail.Trim(), out pid)) await Task.Delay(5, failsafe.Token);
        using var process = ProcessDescriptor.Open(pid);
        Assert.False(process.HasExited);
        var wait = process.WaitForExitAsync(failsafe.Token);
        Assert.True(process.SendSignal(Libc.SignalKill));
        await wait;
        Assert.True(process.HasExited);
    }

    [Fact]
    public void Of_no_process_it_cannot_be_opened() =>
        Assert.Equal(Libc.Esrch, Assert.Throws<NativeException>(() => ProcessDescriptor.Open(int.MaxValue - 1)).Errno);

    [Fact]
    public async Task It_never_means_a_later_process_of_the_same_pid()
    {
        var child = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        using var process = ProcessDescriptor.Open(child.Pid);
        child.Kill(Libc.SignalKill);
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        Assert.False(process.SendSignal(0));
        Assert.True(process.HasExited);
        await process.WaitForExitAsync(default).WaitAsync(Failsafe);
        await child.DisposeAsync();
    }

    [Theory]
    [InlineData("42 (sh) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 99 1", 123456UL)]
    [InlineData("42 (a ) b (c) 7 8) R 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 7 99 1", 7UL)]
    [InlineData("42 (with\nline) R 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551615 99 1", ulong.MaxValue)]
    public void A_start_time_is_read_past_any_name(string stat, ulong expected) =>
        Assert.Equal(expected, ProcessIdentity.ParseStartTime(stat));

    [Theory]
    [InlineData("")]
    [InlineData("42 (sh) S 1 42")]
    [InlineData("42 sh S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 99 1")]
    [InlineData("42 (sh) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 -5 99 1")]
    public void What_is_no_stat_line_is_told(string stat) =>
        Assert.Throws<FormatException>(() => ProcessIdentity.ParseStartTime(stat));

    [Fact]
    public async Task Start_times_tell_processes_apart_and_boots_are_the_same()
    {
        Assert.NotNull(ProcessIdentity.StartTime(Environment.ProcessId));
        Assert.Equal(ProcessIdentity.StartTime(Environment.ProcessId), ProcessIdentity.StartTime(Environment.ProcessId));
        await using var child = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        Assert.True(ProcessIdentity.StartTime(child.Pid) > ProcessIdentity.StartTime(Environment.ProcessId));
        Assert.Null(ProcessIdentity.StartTime(int.MaxValue - 1));
        Assert.Equal(ProcessIdentity.BootId(), ProcessIdentity.BootId());
    }
}
