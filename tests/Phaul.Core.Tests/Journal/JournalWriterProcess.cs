// A writer in a process of its own, so that it can be killed. It is this test assembly once more, run through a startup hook.

using System.Diagnostics;
using Phaul.Journal;

namespace Phaul.Tests.Journal;

/// <summary>Both ends: the test's handle on the process, and what the process does.</summary>
internal sealed class JournalWriterProcess : IDisposable
{
    /// <summary>Appends an iteration for each line of its input, after a first one.</summary>
    public const string Follow = "follow";

    /// <summary>Fills a small disk with its journal, makes room, and goes on; then copies the journal to the state directory.</summary>
    public const string FillDisk = "fill-disk";

    private const string Job = "PHAUL_TEST_JOURNAL_JOB";
    private const string StatePath = "PHAUL_TEST_JOURNAL_STATE";
    private const string Id = "PHAUL_TEST_JOURNAL_ID";

    private readonly Process _process;

    private JournalWriterProcess(Process process) => _process = process;

    public int Pid => _process.Id;

    public static JournalWriterProcess Start(string job, StateDirectory state, string id)
    {
        var assembly = typeof(JournalWriterProcess).Assembly.Location;
        var dotnet = Environment.ProcessPath is { } host && Path.GetFileName(host) == "dotnet" ? host : "dotnet";
        string[] command = [dotnet, "exec", assembly];
        if (job == FillDisk)
            command = ["unshare", "--mount", "--propagation", "private", .. command];
        var start = new ProcessStartInfo(command[0], command[1..]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        start.Environment["DOTNET_STARTUP_HOOKS"] = assembly;
        start.Environment[Job] = job;
        start.Environment[StatePath] = state.Path;
        start.Environment[Id] = id;
        return new(Process.Start(start)!);
    }

    public async Task ExpectAsync(string line, CancellationToken cancellationToken)
        => Assert.Equal(line, await _process.StandardOutput.ReadLineAsync(cancellationToken));

    public async Task<string[]> ReadToEndAsync(CancellationToken cancellationToken)
        => (await _process.StandardOutput.ReadToEndAsync(cancellationToken)).Split('\n', StringSplitOptions.RemoveEmptyEntries);

    public async Task SayAsync(string line)
    {
        await _process.StandardInput.WriteLineAsync(line);
        await _process.StandardInput.FlushAsync();
    }

    /// <summary>SIGKILL.</summary>
    public void Kill()
    {
        _process.Kill();
        _process.WaitForExit();
    }

    public void Dispose() => _process.Dispose();

    /// <summary>In the process: does its job, if this is such a process.</summary>
    public static async Task<bool> RunIfAskedAsync()
    {
        if (Environment.GetEnvironmentVariable(Job) is not { } job)
            return false;
        var state = new StateDirectory(Environment.GetEnvironmentVariable(StatePath)!);
        var id = Environment.GetEnvironmentVariable(Id)!;
        await (job == Follow ? WriteOnDemandAsync(state, id) : WriteUntilFullAsync(state, id));
        return true;
    }

    private static async Task WriteOnDemandAsync(StateDirectory state, string id)
    {
        await using var journal = await MigrationJournal.CreateAsync(state, id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(id), durable: true);
        await journal.AppendAsync(Sample.Entered(MigrationState.Transferring));
        await Console.Out.WriteLineAsync("begun");
        var index = 0;
        do
            await journal.AppendAsync(Sample.Iteration(id, ++index));
        while (await Console.In.ReadLineAsync() is not null);
    }

    private static async Task WriteUntilFullAsync(StateDirectory state, string id)
    {
        // In a mount namespace of its own, which ends with this process.
        var disk = Path.GetDirectoryName(state.Path) + "/disk";
        Directory.CreateDirectory(disk);
        using (var mount = Process.Start("mount", ["-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", disk]))
        {
            await mount.WaitForExitAsync();
            if (mount.ExitCode != 0)
            {
                await Console.Out.WriteLineAsync("no mount");
                return;
            }
        }

        var room = Path.Combine(disk, "room");
        await File.WriteAllBytesAsync(room, new byte[96 << 10]);
        var small = new StateDirectory(disk + "/state");
        await using var journal = await MigrationJournal.CreateAsync(small, id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(id));
        var failures = 0;
        for (var n = 0; n < 70; n++)
        {
            var before = new FileInfo(journal.Path).Length;
            try
            {
                await journal.AppendAsync(new Warning($"{n:0000}{new string('x', 3001)}"));
                await Console.Out.WriteLineAsync($"wrote {n:0000}");
            }
            catch (PhaulException e) when (e.ErrorId == PhaulErrorId.JournalFailed)
            {
                if (new FileInfo(journal.Path).Length > before)
                    await Console.Out.WriteLineAsync("short write");
                // Full: three more fail, then there is room again.
                if (++failures == 4)
                    File.Delete(room);
            }
        }

        var copy = state.JournalPath(id, MigrationSide.Source);
        Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
        File.Copy(journal.Path, copy);
        await Console.Out.WriteLineAsync("done");
    }
}
