// A real process for tests to look at: a Python script in a session of its own that says when it is ready.

using System.IO.Pipes;
using Phaul.Native;

namespace Phaul.Tests.Engines;

/// <summary>Runs a script that calls <c>ready(words...)</c> once it is as the test wants it, and then waits.</summary>
internal sealed class PythonProgram : IAsyncDisposable
{
    private const string Interpreter = "/usr/bin/python3";

    private const string Prologue = """
        import ctypes, fcntl, mmap, os, select, signal, socket, sys, threading, time
        libc = ctypes.CDLL(None, use_errno=True)
        def ready(*words):
            os.write(1, (" ".join(map(str, words)) + "\n").encode())
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(null)
            while True: signal.pause()
        def sleep_in_child():
            pid = os.fork()
            if pid == 0:
                while True: signal.pause()
            return pid

        """;

    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly ChildProcess _child;

    private PythonProgram(ChildProcess child, string[] words) => (_child, Words) = (child, words);

    public int Pid => _child.Pid;

    /// <summary>What it told <c>ready</c>.</summary>
    public IReadOnlyList<string> Words { get; }

    public static async Task<PythonProgram> StartAsync(string script, params string[] arguments)
    {
        Skip.IfNot(File.Exists(Interpreter), $"This test needs {Interpreter}.");
        using var pipe = new AnonymousPipeServerStream(PipeDirection.In, HandleInheritability.Inheritable);
        var child = ChildProcess.Start(new ProcessStart
        {
            File = Interpreter,
            Arguments = ["-S", "-c", Prologue + script, .. arguments],
            Output = pipe.ClientSafePipeHandle,
            Error = pipe.ClientSafePipeHandle,
        });
        try
        {
            pipe.DisposeLocalCopyOfClientHandle();
            using var reader = new StreamReader(pipe);
            string line = await reader.ReadLineAsync().WaitAsync(Failsafe) ?? "";
            if (line.StartsWith("Traceback", StringComparison.Ordinal))
                throw new InvalidOperationException(line + await reader.ReadToEndAsync().WaitAsync(Failsafe));
            return new PythonProgram(child, line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        }
        catch
        {
            await child.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends it and everything below it.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            using var watch = Phaul.Engines.TreeWatch.Open(Phaul.Engines.ProcessTree.Capture(Pid));
            watch.Kill();
            await watch.WaitAllExitedAsync(Failsafe);
        }
        catch (PhaulException)
        {
            // It has ended already.
        }

        await _child.DisposeAsync();
    }
}
