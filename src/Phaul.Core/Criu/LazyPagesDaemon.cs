// `criu lazy-pages`: gives a restored tree its memory while it runs already, out of the images on this host.

using System.Diagnostics;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Phaul.Engines;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Criu;

/// <summary>
/// One daemon for one restore (criu(8), "lazy-pages"). A process of its own, and it goes on when this one dies: a tree whose
/// daemon ends too early reads zeros where its memory was, unless somebody else holds it (<see cref="HoldMemoryAsync"/>).
/// </summary>
internal sealed class LazyPagesDaemon : ILateMemory
{
    public const string Log = "lazy-pages.log";

    private const string Command = "lazy-pages";
    private const string UserFaultDescriptor = "anon_inode:[userfaultfd]";
    private const int StatusDescriptor = 3;
    private static readonly TimeSpan ReadyLimit = TimeSpan.FromSeconds(30);
    // From one task to the next
    private static readonly TimeSpan HandOverLimit = TimeSpan.FromSeconds(5);

    private readonly ChildProcess _process;
    private readonly string _workDirectory;
    private readonly List<(int Number, SafeFileHandle Descriptor)> _held = [];
    private readonly CancellationTokenSource _disposing = new();
    private Task _watching = Task.CompletedTask;

    private LazyPagesDaemon(ChildProcess process, string workDirectory) => (_process, _workDirectory) = (process, workDirectory);

    /// <summary>Whether its criu and this kernel can restore so, by CRIU's own check (userfaultfd).</summary>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static async Task<bool> IsSupportedAsync(string criuPath, CancellationToken cancellationToken)
    {
        try
        {
            await using var criu = new CriuClient(new CriuClientOptions { CriuPath = criuPath });
            return (await criu.CheckFeaturesAsync(cancellationToken).ConfigureAwait(false)).LazyPages;
        }
        catch (CriuException)
        {
            return false;
        }
    }

    /// <summary>
    /// Ends the daemons that read images below a directory. One whose restore never came waits for ever once its owner has died.
    /// Only when nothing runs that could need memory from them.
    /// </summary>
    /// <returns>How many were ended.</returns>
    /// <remarks>With it go the children in which CRIU tries out what the kernel can do: it leads their session.</remarks>
    public static Task<int> EndThoseOfAsync(string workDirectory) => LeftProcesses.EndAsync(pid => IsDaemonOf(pid, workDirectory));

    /// <summary>Starts it and comes back when a restore can connect to it.</summary>
    /// <param name="criuPath">The binary.</param>
    /// <param name="images">The directory that is restored from.</param>
    /// <param name="logLevel">CRIU's, 0 to 4.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">RestoreFailed: it could not be started, or ended, or was not ready in time.</exception>
    public static async Task<LazyPagesDaemon> StartAsync(string criuPath, string images, int logLevel, CancellationToken cancellationToken)
    {
        var (ready, status) = SocketPair.CreateStream();
        using (ready)
        {
            LazyPagesDaemon daemon;
            using (status)
                daemon = Start(criuPath, images, logLevel, status);
            try
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                limit.CancelAfter(ReadyLimit);
                // A byte says that it is ready, the end that it has gone before
                if (await ready.ReceiveAsync(new byte[1], limit.Token).ConfigureAwait(false) == 0)
                    throw daemon.Failed("ended before it was ready");
                return daemon;
            }
            catch (Exception exception)
            {
                await daemon.DisposeAsync().ConfigureAwait(false);
                if (exception is OperationCanceledException && !cancellationToken.IsCancellationRequested)
                    throw daemon.Failed($"was not ready within {ReadyLimit.TotalSeconds:0} s");
                throw;
            }
        }
    }

    private static LazyPagesDaemon Start(string criuPath, string images, int logLevel, Socket status)
    {
        try
        {
            // Not a pipe to this process, which may end first
            using var nowhere = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write);
            return new LazyPagesDaemon(
                ChildProcess.Start(new ProcessStart
                {
                    File = criuPath,
                    Arguments = [Command, "-D", images, "-o", Log, $"-v{logLevel}", "--status-fd", $"{StatusDescriptor}"],
                    Output = nowhere,
                    Error = nowhere,
                    Descriptors = new Dictionary<int, SafeHandle> { [StatusDescriptor] = status.SafeHandle },
                }),
                images);
        }
        catch (Exception exception) when (exception is NativeException or IOException)
        {
            throw new PhaulException(PhaulErrorId.RestoreFailed, $"criu lazy-pages could not be started: {exception.Message}", exception);
        }
    }

    /// <inheritdoc/>
    public Task<IReadOnlyList<LackingMemory>> LackingAsync() => Task.FromResult<IReadOnlyList<LackingMemory>>([]);

    /// <summary>
    /// Holds the tree's missing memory beside the daemon: a daemon that dies then leaves a tree that stands still where it lacks
    /// some. Nobody holding it, the kernel would give it zeros. Until the first task has all, or <see cref="WatchHeld"/> finds it out.
    /// </summary>
    /// <param name="tasks">How many tasks were restored, each of which has handed its memory to the daemon.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">RestoreFailed: the daemon has not got it.</exception>
    public async Task HoldMemoryAsync(int tasks, CancellationToken cancellationToken)
    {
        var handedOver = 0;
        for (var waited = Stopwatch.StartNew(); ; await Task.Delay(1, cancellationToken).ConfigureAwait(false))
        {
            var numbers = ProcFileSystem.Host.ReadNumbers($"{_process.Pid}/fd")
                .Where(number => ProcFileSystem.Host.ReadLink($"{_process.Pid}/fd/{number}") == UserFaultDescriptor).ToArray();
            if (numbers.Length >= tasks)
            {
                Hold(numbers);
                return;
            }

            if (numbers.Length > handedOver)
                waited.Restart();
            handedOver = numbers.Length;
            if (waited.Elapsed > HandOverLimit || _process.HasExited)
                throw Failed($"has the memory of {numbers.Length} tasks, where {tasks} were restored");
        }
    }

    /// <summary>
    /// To be called when the tree is about to run. The daemon lets go of a task that has all its memory, and expects the kernel to give
    /// it fresh pages and let it fork from then on: whoever held on to it would have it stand still.
    /// </summary>
    public void WatchHeld() => _watching = WatchHeldAsync();

    private async Task WatchHeldAsync()
    {
        // It dies before its descriptors go: what a dead daemon does not have any more it has not let go of
        while (_held.Count > 0 && !_disposing.IsCancellationRequested
            && (_held.TrueForAll(IsTheDaemons) || ProcStat.Read(ProcFileSystem.Host, _process.Pid) is not { IsEnding: false }))
        {
            await Task.Delay(1).ConfigureAwait(false);
        }

        if (!_disposing.IsCancellationRequested)
            LetGo();
    }

    private void Hold(IEnumerable<int> numbers)
    {
        try
        {
            foreach (int number in numbers)
                _held.Add((number, _process.Duplicate(number)));
            if (_held.TrueForAll(IsTheDaemons))
                return;
        }
        catch (NativeException)
        {
            // Without the right to (CAP_SYS_PTRACE) it goes as well, but for the daemon's death
        }

        LetGo();
    }

    private bool IsTheDaemons((int Number, SafeFileHandle Descriptor) held) =>
        Libc.CompareFiles(Environment.ProcessId, (int)held.Descriptor.DangerousGetHandle(), _process.Pid, held.Number) == 0;

    /// <inheritdoc/>
    public bool NeedsThisProcess => false;

    /// <summary>Whether it was killed, as opposed to having found something that it could not do.</summary>
    public bool WasKilled { get; private set; }

    /// <summary>Waits until it has delivered everything. Cancelling ends only this wait.</summary>
    /// <exception cref="PhaulException">RestoreFailed: it ended before that, or cannot be given what it asks for.</exception>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        var status = await _process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        WasKilled = status.Signal is not null;
        if (!status.IsSuccess)
            throw Failed($"ended with {status}");
        // What was never written before is the kernel's to give now: zeros, and rightly so
        await EndWatchAsync().ConfigureAwait(false);
    }

    /// <summary>Kills it if it still runs: to be called only when nobody needs memory from it any more.</summary>
    public async ValueTask DisposeAsync()
    {
        await EndWatchAsync().ConfigureAwait(false);
        // CRIU tries out what the kernel can do in children that wait to be killed
        _process.KillGroup();
        await _process.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Leaves it alone: it ends by itself, when it has delivered everything.</summary>
    public async ValueTask ReleaseAsync()
    {
        await EndWatchAsync().ConfigureAwait(false);
        await _process.ReleaseAsync().ConfigureAwait(false);
    }

    private async Task EndWatchAsync()
    {
        await _disposing.CancelAsync().ConfigureAwait(false);
        await _watching.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        LetGo();
    }

    private void LetGo()
    {
        _held.ForEach(one => one.Descriptor.Dispose());
        _held.Clear();
    }

    private static bool IsDaemonOf(int pid, string workDirectory)
    {
        string[] arguments = ProcFileSystem.Host.ReadText($"{pid}/cmdline")?.Split('\0') ?? [];
        int command = Array.IndexOf(arguments, Command);
        return command > 0 && command + 2 < arguments.Length && arguments[command + 1] == "-D"
            && arguments[command + 2].StartsWith(Path.TrimEndingDirectorySeparator(workDirectory) + '/', StringComparison.Ordinal);
    }

    private PhaulException Failed(string how) => new(PhaulErrorId.RestoreFailed, $"criu lazy-pages {how}")
    {
        CriuLog = CriuLog.ReadTail(new Rpc.CriuOpts { ImagesDir = _workDirectory, LogFile = Log }),
    };
}
