// Somebody who holds descriptors when this process dies: a program must not read zeros because its memory server was killed.

using System.Runtime.InteropServices;
using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Memory;

/// <summary>
/// A process that sleeps, and has both ends of a socket in which descriptors are under way (unix(7), SCM_RIGHTS): they stay open as
/// long as it lives, whatever becomes of this process.
/// </summary>
internal sealed class DescriptorHolder : IAsyncDisposable
{
    private const string Mark = "PHAUL_HOLDS_MEMORY_BELOW";
    private const int QueueBytes = 4 << 20;

    // In the work directory: something is held by the server alone
    private const string UnheldMark = "memory-held-once";

    private readonly object _lock = new();
    private readonly ChildProcess _process;
    private readonly PacketSocket _in;
    private readonly PacketSocket _out;
    private readonly List<SafeHandle> _held = [];
    private readonly string _workDirectory;

    private DescriptorHolder(ChildProcess process, PacketSocket into, PacketSocket from, string workDirectory) =>
        (_process, _in, _out, _workDirectory) = (process, into, from, workDirectory);

    /// <summary>Starts it.</summary>
    /// <param name="workDirectory">What <see cref="EndThoseOfAsync"/> finds it by.</param>
    /// <exception cref="NativeException">It cannot be started.</exception>
    public static DescriptorHolder Start(string workDirectory)
    {
        var (into, end) = SocketPair.CreatePacket();
        var from = new PacketSocket(end);
        try
        {
            into.ForceSendBufferSize(QueueBytes);
            using var nowhere = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write);
            var process = ChildProcess.Start(new ProcessStart
            {
                File = "sleep",
                Arguments = ["infinity"],
                Environment = new Dictionary<string, string>
                {
                    ["PATH"] = Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin:/bin",
                    [Mark] = workDirectory,
                },
                Descriptors = new Dictionary<int, SafeHandle> { [3] = into.Descriptor, [4] = from.Descriptor },
                Output = nowhere,
                Error = nowhere,
            });
            return new DescriptorHolder(process, into, from, workDirectory);
        }
        catch
        {
            into.Dispose();
            from.Dispose();
            throw;
        }
    }

    /// <summary>Ends those that an earlier process left for images below a directory. Only when nothing runs that they hold memory of.</summary>
    /// <returns>How many were ended.</returns>
    public static Task<int> EndThoseOfAsync(string workDirectory) => LeftProcesses.EndAsync(pid => IsHolderOf(pid, workDirectory));

    /// <summary>Whether an earlier process has left one for images below a directory, and there was nothing that it could not hold.</summary>
    public static bool HoldsAllFor(string workDirectory) =>
        ProcFileSystem.Host.ReadNumbers("").Any(pid => IsHolderOf(pid, workDirectory))
        && !(Directory.Exists(workDirectory) && Directory.EnumerateFiles(workDirectory, UnheldMark, SearchOption.AllDirectories).Any());

    /// <summary>Holds a descriptor, which stays the caller's as well.</summary>
    /// <returns>Whether it could.</returns>
    public bool TryHold(SafeHandle descriptor)
    {
        lock (_lock)
        {
            if (!TrySend(descriptor))
            {
                MarkUnheld();
                return false;
            }

            _held.Add(descriptor);
            return true;
        }
    }

    /// <summary>Lets go of a descriptor; the caller closes its own afterwards.</summary>
    public void LetGo(SafeHandle descriptor)
    {
        lock (_lock)
        {
            var index = _held.IndexOf(descriptor);
            if (index < 0)
                return;
            // What is under way comes out in the order in which it went in, so every other is put in once more right before it
            // comes out: none is ever held by nobody
            for (var i = 0; i < _held.Count; i++)
            {
                if (i != index && !TrySend(_held[i]))
                {
                    // Better held by this process alone than by somebody who never lets go
                    MarkUnheld();
                    while (_out.TryReceive(new byte[1], out var one) is > 0)
                        one?.Dispose();
                    _held.Clear();
                    return;
                }

                if (_out.TryReceive(new byte[1], out var passed) is > 0)
                    passed?.Dispose();
            }

            _held.RemoveAt(index);
        }
    }

    /// <summary>Leaves it alone with what it holds.</summary>
    public async ValueTask ReleaseAsync()
    {
        await _process.ReleaseAsync().ConfigureAwait(false);
        _in.Dispose();
        _out.Dispose();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _process.DisposeAsync().ConfigureAwait(false);
        _in.Dispose();
        _out.Dispose();
    }

    // Were the server killed now, the kernel would give zeros: whoever finds a holder then must not take it for a proof
    private void MarkUnheld()
    {
        try
        {
            File.WriteAllBytes(Path.Combine(_workDirectory, UnheldMark), []);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Then nobody is to find a holder either
            _process.Kill(Libc.SignalKill);
        }
    }

    private bool TrySend(SafeHandle descriptor)
    {
        try
        {
            return _in.TrySendDescriptor(descriptor);
        }
        catch (NativeException)
        {
            // More than the kernel lets be under way
            return false;
        }
    }

    private static bool IsHolderOf(int pid, string workDirectory)
    {
        var prefix = $"{Mark}={Path.TrimEndingDirectorySeparator(workDirectory)}/";
        return ProcFileSystem.Host.ReadText($"{pid}/environ")?.Split('\0').Any(variable => variable.StartsWith(prefix, StringComparison.Ordinal)) == true;
    }
}
