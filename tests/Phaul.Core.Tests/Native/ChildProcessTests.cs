// Children: what they inherit, how they end, and that nobody else takes their status.
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Tests.Native;

public sealed class ChildProcessTests
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);

    [Theory]
    [InlineData("exit 0", 0, null)]
    [InlineData("exit 37", 37, null)]
    [InlineData("kill -TERM $$", null, 15)]
    public async Task They_end_with_their_status(string script, int? code, int? signal)
    {
        await using var child = Shell(script);
        Assert.Equal(new ExitStatus(code, signal), await child.WaitForExitAsync(default).WaitAsync(Failsafe));
        Assert.True(child.HasExited);
        Assert.False(Directory.Exists($"/proc/{child.Pid}")); // reaped
    }

    [Theory]
    [InlineData("/nonexistent/program", Libc.Enoent)]
    [InlineData("no-such-program-anywhere", Libc.Enoent)]
    [InlineData("/etc/passwd", Libc.Eacces)]
    public void What_cannot_be_started_says_why(string file, int errno) =>
        Assert.Equal(errno, Assert.Throws<NativeException>(() => ChildProcess.Start(new ProcessStart { File = file })).Errno);

    [Fact]
    public async Task They_inherit_named_descriptors_and_no_others()
    {
        // Also one that this process inherited itself, or was made without close-on-exec by some library.
        using var leaky = Leaky();
        using var passwd = File.OpenHandle("/etc/passwd");
        using var hosts = File.OpenHandle("/etc/hosts");
        await using var child = ChildProcess.Start(new ProcessStart
        {
            File = "ls",
            Arguments = ["-l", "/proc/self/fd"],
            Descriptors = new Dictionary<int, SafeHandle> { [3] = passwd, [4] = hosts },
        });
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        // ls has the directory itself open, too.
        var lines = child.OutputTail.Split('\n').Where(line => line.Contains(" -> ", StringComparison.Ordinal))
            .Select(line => line[(line.LastIndexOf(' ', line.IndexOf(" -> ", StringComparison.Ordinal) - 1) + 1)..].Split(" -> "))
            .Where(line => !line[1].StartsWith("/proc/", StringComparison.Ordinal)).ToList();
        Assert.Equal(["0", "1", "2", "3", "4"], lines.Select(line => line[0]));
        Assert.Equal("/dev/null", lines[0][1]);
        Assert.Equal(["/etc/passwd", "/etc/hosts"], lines.Skip(3).Select(line => line[1]));
    }

    [Fact]
    public async Task Descriptors_that_trade_numbers_are_not_mixed_up()
    {
        // Whatever low numbers these sources have, each is also some other one's target.
        var files = Enumerable.Range(0, 40).Select(index => Directory.CreateTempSubdirectory($"phaul-{index}-")).ToList();
        var handles = files.Select(file => DirectoryDescriptor.Open(file.FullName)).ToList();
        await using var child = ChildProcess.Start(new ProcessStart
        {
            File = "sh",
            Arguments = ["-c", "i=3; while [ $i -lt 43 ]; do readlink /proc/$$/fd/$i; i=$((i+1)); done"],
            Descriptors = handles.Select((handle, index) => (handle, index)).Reverse()
                .ToDictionary(pair => 3 + pair.index, pair => (SafeHandle)pair.handle),
        });
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        Assert.Equal(files.Select(file => file.FullName), child.OutputTail.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        handles.ForEach(handle => handle.Dispose());
        files.ForEach(file => file.Delete());
    }

    [Theory]
    [InlineData(true, false, false)]
    [InlineData(true, true, true)]
    [InlineData(false, false, true)]
    public async Task What_they_started_ends_with_them_where_that_was_asked_for(bool endsWithIt, bool isSpared, bool lives)
    {
        // A stopped child, which no hang-up ends: what a killed CRIU leaves of its trials of the kernel.
        await using var child = ChildProcess.Start(new ProcessStart
        {
            File = "bash",
            Arguments = ["-c", "sleep 600 & echo $!; kill -STOP $!; wait"],
            GroupEndsWithIt = endsWithIt,
        });
        int pid;
        while (!int.TryParse(child.OutputTail, NumberStyles.Integer, CultureInfo.InvariantCulture, out pid)
            || ProcStat.Read(ProcFileSystem.Host, pid)?.State != 'T')
            await Task.Delay(5).WaitAsync(Failsafe);
        using var started = ProcessDescriptor.Open(pid);
        if (isSpared) child.SpareGroup();
        child.Kill(Libc.SignalKill);
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        if (lives)
        {
            Assert.Equal('T', ProcStat.Read(ProcFileSystem.Host, pid)?.State);
            started.SendSignal(Libc.SignalKill);
        }
        await started.WaitForExitAsync(default).WaitAsync(Failsafe);
    }

    [Fact]
    public async Task They_lead_a_session_with_signals_at_their_defaults()
    {
        await using var child = ChildProcess.Start(new ProcessStart { File = "cat", Arguments = ["/proc/self/stat", "/proc/self/status"] });
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        var lines = child.OutputTail.Split('\n');
        Assert.Equal(child.Pid, ProcStat.Parse(lines[0])!.SessionId);
        foreach (var name in new[] { "SigBlk:", "SigIgn:", "SigCgt:" })
        {
            var signals = Convert.ToUInt64(lines.Single(line => line.StartsWith(name, StringComparison.Ordinal)).Split('\t')[1], 16);
            Assert.Equal(0ul, signals & ~0x180000000ul); // 32 and 33 are the C library's own
        }
    }

    [Fact]
    public async Task They_get_the_environment_that_they_are_given()
    {
        await using var child = ChildProcess.Start(new ProcessStart
        {
            File = "env",
            Environment = new Dictionary<string, string> { ["ONE"] = "1", ["Zwölf"] = "ä b" },
        });
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        Assert.Equal(["ONE=1", "Zwölf=ä b"], child.OutputTail.Split('\n', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task However_much_they_write_only_the_end_is_kept()
    {
        await using var child = Shell("seq 1 200000; echo the end >&2");
        await child.WaitForExitAsync(default).WaitAsync(Failsafe);
        Assert.Equal(16 * 1024, child.OutputTail.Length);
        Assert.EndsWith("199999\n200000\nthe end\n", child.OutputTail, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Output_can_go_to_a_file()
    {
        var path = Path.GetTempFileName();
        using (var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write))
        {
            await using var child = ChildProcess.Start(new ProcessStart
            {
                File = "sh",
                Arguments = ["-c", "echo to the file; echo to the tail >&2"],
                Output = file,
            });
            await child.WaitForExitAsync(default).WaitAsync(Failsafe);
            Assert.Equal("to the tail\n", child.OutputTail);
        }
        Assert.Equal("to the file\n", File.ReadAllText(path));
        File.Delete(path);
    }

    [Fact]
    public async Task A_grandchild_that_keeps_the_output_open_delays_nothing()
    {
        await using var child = Shell("sleep 600 & echo $!");
        Assert.True((await child.WaitForExitAsync(default).WaitAsync(Failsafe)).IsSuccess);
        Libc.Check(Libc.Kill(int.Parse(child.OutputTail, CultureInfo.InvariantCulture), Libc.SignalKill), "kill");
    }

    [Fact]
    public async Task Giving_up_the_wait_leaves_them_alone()
    {
        await using var child = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        using var cancel = new CancellationTokenSource();
        var wait = child.WaitForExitAsync(cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
        Assert.False(child.HasExited);
        child.Kill(Libc.SignalTerminate);
        Assert.Equal(Libc.SignalTerminate, (await child.WaitForExitAsync(default).WaitAsync(Failsafe)).Signal);
        child.Kill(Libc.SignalTerminate); // of a process that is gone: nothing
    }

    [Fact]
    public async Task Disposing_kills_and_reaps()
    {
        var child = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["600"] });
        var pid = child.Pid;
        await child.DisposeAsync();
        await child.DisposeAsync();
        Assert.Null(ProcStat.Read(ProcFileSystem.Host, pid));
    }

    [Fact]
    public async Task Dotnets_own_handling_of_children_takes_no_status_away()
    {
        var work = Enumerable.Range(0, 60).Select(async number =>
        {
            var code = number % 50;
            if (number % 2 == 0)
            {
                using var process = Process.Start("sh", ["-c", $"exit {code}"]);
                await process.WaitForExitAsync();
                return (code, process.ExitCode);
            }
            await using var child = Shell($"exit {code}");
            return (code, (await child.WaitForExitAsync(default)).ExitCode ?? -1);
        });
        Assert.All(await Task.WhenAll(work).WaitAsync(Failsafe), pair => Assert.Equal(pair.Item1, pair.Item2));
    }

    private static ChildProcess Shell(string script) => ChildProcess.Start(new ProcessStart { File = "sh", Arguments = ["-c", script] });

    private static Microsoft.Win32.SafeHandles.SafeFileHandle Leaky() =>
        new(Libc.Check(Libc.Open("/etc/group", Libc.OpenReadOnly, 0), "open"), ownsHandle: true);
}
