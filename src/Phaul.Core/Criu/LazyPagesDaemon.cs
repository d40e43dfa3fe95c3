// `criu lazy-pages`: gives a restored tree its memory while it runs already, out of the images on this host.

using Phaul.Native;

namespace Phaul.Criu;

/// <summary>
/// One daemon for one restore (criu(8), "lazy-pages"). A process of its own, and it goes on when this one dies: a tree whose
/// daemon ends too early reads zeros where its memory was.
/// </summary>
internal sealed class LazyPagesDaemon : IAsyncDisposable
{
    private const string Log = "lazy-pages.log";
    private const int StatusDescriptor = 3;
    private static readonly TimeSpan ReadyLimit = TimeSpan.FromSeconds(30);

    private readonly ChildProcess _process;
    private readonly string _imagesDirectory;

    private LazyPagesDaemon(ChildProcess process, string imagesDirectory) => (_process, _imagesDirectory) = (process, imagesDirectory);

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
    /// Whether it would deliver all that can be late. Of a chain of images it delivers the last directory's own pages only, and
    /// leaves the others to the restore.
    /// </summary>
    public static bool Serves(string imagesDirectory) => !Path.Exists(Path.Combine(imagesDirectory, "parent"));

    /// <summary>Starts it and comes back when a restore can connect to it.</summary>
    /// <exception cref="PhaulException">RestoreFailed: it could not be started, or ended, or was not ready in time.</exception>
    public static async Task<LazyPagesDaemon> StartAsync(string criuPath, string imagesDirectory, int logLevel, CancellationToken cancellationToken)
    {
        LazyPagesDaemon daemon;
        var (ready, status) = SocketPair.CreateStream();
        using (ready)
        {
            using (status)
            {
                try
                {
                    // Not a pipe to this process, which may end first
                    using var nowhere = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.Write);
                    daemon = new LazyPagesDaemon(
                        ChildProcess.Start(new ProcessStart
                        {
                            File = criuPath,
                            Arguments =
                            [
                                "lazy-pages", "-D", imagesDirectory, "-W", imagesDirectory, "-o", Log, $"-v{logLevel}",
                                "--status-fd", StatusDescriptor.ToString(System.Globalization.CultureInfo.InvariantCulture),
                            ],
                            Output = nowhere,
                            Error = nowhere,
                            Descriptors = new Dictionary<int, System.Runtime.InteropServices.SafeHandle> { [StatusDescriptor] = status.SafeHandle },
                        }),
                        imagesDirectory);
                }
                catch (NativeException exception)
                {
                    throw new PhaulException(PhaulErrorId.RestoreFailed, $"criu lazy-pages could not be started: {exception.Message}", exception);
                }
            }

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

    /// <summary>Whether it was killed, as opposed to having found something that it could not do.</summary>
    public bool WasKilled { get; private set; }

    /// <summary>Waits until it has delivered everything. Cancelling ends only this wait.</summary>
    /// <exception cref="PhaulException">RestoreFailed: it ended before that.</exception>
    public async Task WaitAsync(CancellationToken cancellationToken)
    {
        var status = await _process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        WasKilled = status.Signal is not null;
        if (!status.IsSuccess)
            throw Failed($"ended with {status}");
    }

    /// <summary>Kills it if it still runs: to be called only when nobody needs memory from it any more.</summary>
    public ValueTask DisposeAsync() => _process.DisposeAsync();

    /// <summary>Leaves it alone: it ends by itself, when it has delivered everything.</summary>
    public ValueTask ReleaseAsync() => _process.ReleaseAsync();

    private PhaulException Failed(string how) => new(PhaulErrorId.RestoreFailed, $"criu lazy-pages {how}")
    {
        CriuLog = CriuLog.ReadTail(new Rpc.CriuOpts { ImagesDir = _imagesDirectory, LogFile = Log }),
    };
}
