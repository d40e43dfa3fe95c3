// A made-up /proc, for what this machine does not have.

using Phaul.Procfs;

namespace Phaul.Tests.Engines;

internal sealed class FakeProc : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-proc-");

    public FakeProc()
    {
        Proc = new ProcFileSystem(_directory.FullName);
        Write("sys/kernel/random/boot_id", "00000000-0000-0000-0000-00000000000b\n");
    }

    public ProcFileSystem Proc { get; }

    public void Write(string path, string text)
    {
        string full = Path.Combine(_directory.FullName, path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        File.WriteAllText(full, text);
    }

    public void AddProcess(int pid, int parent, int group = 0, int session = 0, string command = "made-up", params int[] threads)
    {
        Write($"{pid}/stat", StatLine(pid, command, 'S', parent, group, session, 1000 + (ulong)pid));
        Write($"{pid}/status", $"Name:\t{command}\nTgid:\t{pid}\n");
        foreach (int thread in threads.Length == 0 ? [pid] : threads) Write($"{pid}/task/{thread}/comm", command);
    }

    public void Dispose() => _directory.Delete(recursive: true);

    public static string StatLine(int pid, string command, char state, int parent, int group, int session, ulong startTime) =>
        $"{pid} ({command}) {state} {parent} {group} {session} 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 "
        + $"{startTime} 9 10 18446744073709551615 0 0 0\n";
}
