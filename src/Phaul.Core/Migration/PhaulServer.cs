// The destination side: one image directory for each iteration, and somebody who writes the pages into it.

using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Images;
using Phaul.Images.Pages;
using Phaul.Native;

namespace Phaul;

/// <summary>
/// Receives the memory of one migration. The counterpart of P.Haul's server: call <see cref="StartIterationAsync"/> and
/// <see cref="StopIterationAsync"/> when the client asks for them, then restore from <see cref="LastImagesDirectory"/>.
/// It implements <see cref="IPhaulRemote"/> and can be handed straight to a <see cref="PhaulClient"/> in the same process.
/// </summary>
public sealed class PhaulServer : IPhaulRemote, IAsyncDisposable
{
    // Whoever was told that there is no more writes what is left and ends: disk speed is the only limit.
    private static readonly TimeSpan EndLimit = TimeSpan.FromMinutes(2);

    private readonly PhaulConfig _config;
    private readonly ImageChain _chain;
    private readonly CriuClient _pageServers;
    private readonly PageReceiver? _receiver;
    private readonly CancellationTokenSource _disposing = new();
    private bool _receives;
    private int _disposed;
    private Task? _pagesReceived;

    /// <summary>Makes a server whose pages come through <see cref="PhaulConfig.MemorySocket"/>, to CRIU's own page servers; nothing is touched yet.</summary>
    /// <exception cref="ArgumentException">The work directory does not exist.</exception>
    public PhaulServer(PhaulConfig config)
        : this(config, null)
    {
    }

    /// <param name="config">What to do.</param>
    /// <param name="receiver">Takes the pages in place of CRIU's page servers; disposed by the caller, after the server.</param>
    internal PhaulServer(PhaulConfig config, PageReceiver? receiver)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (!Directory.Exists(config.WorkDirectory))
            throw new ArgumentException($"The work directory {config.WorkDirectory} does not exist.", nameof(config));
        if (receiver is null && config.MemorySocket is null)
            throw new ArgumentException("The pages have nowhere to come from: there is no memory socket.", nameof(config));
        _config = config;
        _receiver = receiver;
        _chain = new ImageChain(config.WorkDirectory);
        _pageServers = new CriuClient(new CriuClientOptions { CriuPath = config.CriuPath, MemorySocket = config.MemorySocket });
        Criu = new CriuClient(new CriuClientOptions { CriuPath = config.CriuPath, RequestTimeout = RestoreLimit });
    }

    /// <summary>A restore that reads all memory takes as long as the disk does: some terabytes at 200 MB/s.</summary>
    internal static TimeSpan RestoreLimit { get; } = TimeSpan.FromHours(6);

    /// <summary>The CRIU client for the restore. Disposed with the server.</summary>
    public CriuClient Criu { get; }

    /// <summary>The absolute path of the newest image directory; empty before the first iteration.</summary>
    public string LastImagesDirectory => _chain.Last?.Path ?? "";

    /// <summary>Ends when the pages of the current iteration have all been written; faulted if that failed.</summary>
    internal Task PagesReceived => _pagesReceived ?? Task.CompletedTask;

    /// <summary>Starts the processes that later steps need, so that they are not started while the tree is frozen.</summary>
    public async Task WarmUpAsync(CancellationToken cancellationToken = default)
    {
        if (_receiver is null)
            await _pageServers.OpenAsync(cancellationToken).ConfigureAwait(false);
        await Criu.OpenAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The previous iteration was not stopped.</exception>
    /// <exception cref="CriuException">CRIU could not start a page server.</exception>
    public async Task StartIterationAsync(CancellationToken cancellationToken = default)
    {
        if (_receives)
            throw new InvalidOperationException("The previous iteration has not been stopped.");
        var images = _chain.OpenNext();
        // Watched from the beginning: what fails here must not be found out by a source that waits for it.
        _pagesReceived = _receiver is null
            ? await StartPageServerAsync(images, cancellationToken).ConfigureAwait(false)
            : StartReceiver(_receiver, images);
        _receives = true;
    }

    /// <summary>Begins the last iteration of a migration whose memory follows: no pages come before its images.</summary>
    internal void StartIterationWithoutPages()
    {
        if (_receives)
            throw new InvalidOperationException("The previous iteration has not been stopped.");
        var images = _chain.OpenNext();
        if (images.Parent is not null)
            images.LinkParent();
        _pagesReceived = Task.CompletedTask;
        _receives = true;
    }

    /// <inheritdoc/>
    /// <remarks>May be called again after it has succeeded: the engine needs the pages complete before it restores.</remarks>
    /// <exception cref="PhaulException">PageTransferFailed: pages are missing.</exception>
    /// <exception cref="TimeoutException">They are not written after two minutes.</exception>
    public async Task StopIterationAsync(CancellationToken cancellationToken = default)
    {
        if (!_receives)
            return;
        await PagesReceived.WaitAsync(EndLimit, cancellationToken).ConfigureAwait(false);
        _receives = false;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await EndPagesAsync().ConfigureAwait(false);
        await Criu.DisposeAsync().ConfigureAwait(false);
        _disposing.Dispose();
    }

    /// <summary>Stops receiving; <see cref="Criu"/> stays for what is restored.</summary>
    internal async ValueTask EndPagesAsync()
    {
        await _disposing.CancelAsync().ConfigureAwait(false);
        // Disposing the session ends its page server, too: one whose peer never comes would otherwise stay for ever.
        await _pageServers.DisposeAsync().ConfigureAwait(false);
        await PagesReceived.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private Task StartReceiver(PageReceiver receiver, ImageDirectory images)
    {
        if (images.Parent is not null)
            images.LinkParent();
        // Writing pages is work for a thread of its own, and this one has more to do
        return Task.Run(() => receiver.ReceiveAsync(images.Path, _disposing.Token), CancellationToken.None);
    }

    private async Task<Task> StartPageServerAsync(ImageDirectory images, CancellationToken cancellationToken)
    {
        using var directory = DirectoryDescriptor.Open(images.Path);
        var options = RestoreRequest.ForPageServer(_config, _pageServers, directory, images.Parent);
        return WaitForPageServerAsync(await _pageServers.StartPageServerAsync(options, cancellationToken).ConfigureAwait(false));
    }

    private async Task WaitForPageServerAsync(PageServerChild pageServer)
    {
        string end;
        CriuException? cause = null;
        try
        {
            var status = await _pageServers.WaitPidAsync(pageServer.Pid, CancellationToken.None).ConfigureAwait(false);
            if (status.IsSuccess)
                return;
            end = $"ended with {status}";
        }
        catch (CriuException exception)
        {
            (end, cause) = ($"was lost: {exception.Message}", exception);
        }

        throw new PhaulException(PhaulErrorId.PageTransferFailed, $"CRIU's page server {end}", cause)
        {
            CriuLog = CriuLog.ReadTail(new CriuOpts { ImagesDir = LastImagesDirectory, LogFile = RestoreRequest.PageServerLog }),
        };
    }
}
