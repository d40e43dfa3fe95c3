// A child process that inherits only what it is given, whose end is awaited without a thread, and that cannot be leaked.
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>
/// A child in a session of its own. System.Diagnostics.Process can neither pass descriptors nor start a session, and ends
/// in a SIGCHLD handler that is shared by everything in the process.
/// </summary>
internal sealed class ChildProcess : IAsyncDisposable
{
    private static readonly TimeSpan KillTimeout = TimeSpan.FromSeconds(30);

    private readonly ProcessDescriptor _process;
    private readonly OutputTail? _output;
    private volatile bool _groupEndsWithIt;
    private readonly CancellationTokenSource _abandon = new();
    private readonly Task<ExitStatus> _exit;

    private ChildProcess(ProcessDescriptor process, OutputTail? output, bool groupEndsWithIt)
    {
        _process = process;
        _output = output;
        _groupEndsWithIt = groupEndsWithIt;
        _exit = ReapAsync(_abandon.Token);
    }

    /// <summary>The child's pid.</summary>
    public int Pid => _process.Pid;

    /// <summary>Whether it has ended and its status is known.</summary>
    public bool HasExited => _exit.IsCompleted || _process.HasExited;

    /// <summary>The last part of what it wrote to captured output and error.</summary>
    public string OutputTail => _output?.Text ?? "";

    /// <summary>Starts a program.</summary>
    /// <exception cref="NativeException">It is absent (ENOENT), not executable (EACCES, ENOEXEC), or no process can be made.</exception>
    public static ChildProcess Start(ProcessStart start)
    {
        var output = start.Output is null || start.Error is null ? new OutputTail() : null;
        try
        {
            int pid;
            using (var writing = output?.OpenWriter())
                pid = Spawn.Run(start, start.Output ?? writing!, start.Error ?? writing!);
            // Nobody but us reaps this child, so that the pid cannot have been given to another by now.
            return new ChildProcess(ProcessDescriptor.Open(pid), output, start.GroupEndsWithIt);
        }
        catch
        {
            output?.Dispose();
            throw;
        }
    }

    /// <summary>Completes with its status when it has ended. Cancelling ends only this wait.</summary>
    public Task<ExitStatus> WaitForExitAsync(CancellationToken cancellationToken) => _exit.WaitAsync(cancellationToken);

    /// <summary>Sends a signal; does nothing if it has ended.</summary>
    public void Kill(int signal)
    {
        if (!_exit.IsCompleted) _process.SendSignal(signal);
    }

    /// <summary>Kills it with everything that it has started in its session and that is still there. Nothing once it has ended.</summary>
    public void KillGroup()
    {
        // As long as it is not reaped the number is its own
        if (!_exit.IsCompleted)
            Libc.Kill(-Pid, Libc.SignalKill);
    }

    /// <summary>From now on nothing else ends when it ends: see <see cref="ProcessStart.GroupEndsWithIt"/>.</summary>
    public void SpareGroup() => _groupEndsWithIt = false;

    /// <inheritdoc cref="ProcessDescriptor.Duplicate"/>
    public SafeFileHandle Duplicate(int number) => _process.Duplicate(number);

    /// <summary>Lets it run on by itself, and closes what belongs to it here.</summary>
    public ValueTask ReleaseAsync() => CloseAsync();

    /// <summary>Kills it if it still runs, reaps it, and closes what belongs to it.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_process.IsClosed) return;
        Kill(Libc.SignalKill);
        try
        {
            await _exit.WaitAsync(KillTimeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // Stuck in the kernel. Nothing more can be done from here, and waiting for ever would only hide it.
        }
        await CloseAsync().ConfigureAwait(false);
    }

    private async ValueTask CloseAsync()
    {
        if (_process.IsClosed) return;
        await _abandon.CancelAsync().ConfigureAwait(false);
        await ((Task)_exit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_output is not null) await _output.DisposeAsync().ConfigureAwait(false);
        _process.Dispose();
        _abandon.Dispose();
    }

    private async Task<ExitStatus> ReapAsync(CancellationToken abandoned)
    {
        await _process.WaitForExitAsync(abandoned).ConfigureAwait(false);
        if (_groupEndsWithIt) Libc.Kill(-Pid, Libc.SignalKill);
        var status = _process.Reap();
        _output?.Drain();
        return status;
    }
}
