// A small process for CRIU to dump: it counts into a file, fifty times a second.
using System.Globalization;
using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Tests.Criu;

/// <summary>A process in a session of its own, with nothing but /dev/null open, whose file tells that it runs and where it is.</summary>
internal sealed class CountingProgram : IAsyncDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(30);

    // Waiting is done by reading from a pipe that nobody writes to: a sleep would be another process, and so would be
    // the one that has made the pipe, were it not waited for.
    private const string Script = """
        exec 3<> <(:)
        wait $!
        i=0
        while :; do i=$((i+1)); echo $i >>"$0"; read -t 0.02 -u 3; done
        """;

    private readonly ChildProcess _child;
    private readonly DirectoryInfo _directory;

    private CountingProgram(ChildProcess child, DirectoryInfo directory) => (_child, _directory) = (child, directory);

    public int Pid => _child.Pid;

    public ChildProcess Child => _child;

    private string CountFile => Path.Combine(_directory.FullName, "count");

    /// <param name="script">Something else that counts into the file `$0`; null: nothing but that.</param>
    public static async Task<CountingProgram> StartAsync(string? script = null)
    {
        var directory = Directory.CreateTempSubdirectory("phaul-count-");
        using var nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        var child = ChildProcess.Start(new ProcessStart
        {
            File = "bash",
            Arguments = ["-c", script ?? Script, Path.Combine(directory.FullName, "count")],
            Output = nothing,
            Error = nothing,
        });
        var program = new CountingProgram(child, directory);
        await program.SeeItCountAsync();
        return program;
    }

    /// <summary>How far it has counted; fails if it ever left out or repeated a number.</summary>
    public long Count
    {
        get
        {
            if (!File.Exists(CountFile)) return 0;
            var text = File.ReadAllText(CountFile);
            var lines = text.Split('\n')[..^1]; // behind the last line end there is nothing, or half a number
            for (var i = 0; i < lines.Length; i++) Assert.Equal((i + 1).ToString(CultureInfo.InvariantCulture), lines[i]);
            return lines.Length;
        }
    }

    /// <summary>Waits until it has counted on from here, which only a running process does.</summary>
    public async Task SeeItCountAsync()
    {
        var from = Count;
        using var failsafe = new CancellationTokenSource(Failsafe);
        while (Count < from + 3) await Task.Delay(5, failsafe.Token);
    }

    /// <summary>Kills it with its children, also where it was restored and is no longer our child.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var pid in TreeOf(Pid)) await KillAsync(pid);
        await _child.DisposeAsync();
        _directory.Delete(recursive: true);
    }

    private static int[] TreeOf(int pid)
    {
        try
        {
            return [.. ProcessTree.Capture(pid).Members.Select(member => member.Pid)];
        }
        catch (PhaulException)
        {
            return []; // it has ended
        }
    }

    private async Task KillAsync(int pid)
    {
        // Only if the pid is still this program's.
        if (ProcFileSystem.Host.ReadText($"{pid}/cmdline")?.Contains(CountFile, StringComparison.Ordinal) != true) return;
        using var process = ProcessDescriptor.Open(pid);
        process.SendSignal(Libc.SignalKill);
        await process.WaitForExitAsync(CancellationToken.None).WaitAsync(Failsafe);
    }
}
