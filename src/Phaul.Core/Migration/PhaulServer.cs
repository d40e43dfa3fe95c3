// The destination side: one image directory and one page server for each iteration.

using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Images;
using Phaul.Native;

namespace Phaul;

/// <summary>
/// Receives the memory of one migration. The counterpart of P.Haul's server: call <see cref="StartIterationAsync"/> and
/// <see cref="StopIterationAsync"/> when the client asks for them, then restore from <see cref="LastImagesDirectory"/>.
/// It implements <see cref="IPhaulRemote"/> and can be handed straight to a <see cref="PhaulClient"/> in the same process.
/// </summary>
public sealed class PhaulServer : IPhaulRemote, IAsyncDisposable
{
    // A page server that was told to close answers, writes what it buffers and exits: disk speed is the only limit.
    private static readonly TimeSpan PageServerExitLimit = TimeSpan.FromMinutes(2);

    private readonly PhaulConfig _config;
    private readonly ImageChain _chain;
    private readonly CriuClient _pageServers;
    private PageServerChild? _pageServer;
    private Task? _pageServerExit;

    /// <summary>Makes a server; nothing is touched yet.</summary>
    /// <exception cref="ArgumentException">The work directory does not exist.</exception>
    public PhaulServer(PhaulConfig config)
    {
        ArgumentNullException.ThrowIfNull(config);
        if (!Directory.Exists(config.WorkDirectory))
            throw new ArgumentException($"The work directory {config.WorkDirectory} does not exist.", nameof(config));
        _config = config;
        _chain = new ImageChain(config.WorkDirectory);
        _pageServers = new CriuClient(new CriuClientOptions { CriuPath = config.CriuPath, MemorySocket = config.MemorySocket });
        Criu = new CriuClient(new CriuClientOptions { CriuPath = config.CriuPath });
    }

    /// <summary>The CRIU client for the restore. Disposed with the server.</summary>
    public CriuClient Criu { get; }

    /// <summary>The absolute path of the newest image directory; empty before the first iteration.</summary>
    public string LastImagesDirectory => _chain.Last?.Path ?? "";

    /// <summary>Ends when the page server of the current iteration has ended; faulted if it failed.</summary>
    internal Task PageServerExit => _pageServerExit ?? Task.CompletedTask;

    /// <summary>Starts the processes that later steps need, so that they are not started while the tree is frozen.</summary>
    public async Task WarmUpAsync(CancellationToken cancellationToken = default)
    {
        await _pageServers.OpenAsync(cancellationToken).ConfigureAwait(false);
        await Criu.OpenAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    /// <exception cref="InvalidOperationException">The previous iteration was not stopped.</exception>
    /// <exception cref="CriuException">CRIU could not start a page server.</exception>
    public async Task StartIterationAsync(CancellationToken cancellationToken = default)
    {
        if (_pageServer is not null)
            throw new InvalidOperationException("The previous iteration has not been stopped.");
        var images = _chain.OpenNext();
        using var directory = DirectoryDescriptor.Open(images.Path);
        var options = RestoreRequest.ForPageServer(_config, _pageServers, directory, images.Parent);
        _pageServer = await _pageServers.StartPageServerAsync(options, cancellationToken).ConfigureAwait(false);
        // Watched from the beginning: a page server that dies must not be found out by a source that waits for it.
        _pageServerExit = WaitForPageServerAsync(_pageServer);
    }

    /// <inheritdoc/>
    /// <remarks>May be called again after it has succeeded: the engine needs the pages complete before it restores.</remarks>
    /// <exception cref="CriuException">The page server failed: pages are missing.</exception>
    public async Task StopIterationAsync(CancellationToken cancellationToken = default)
    {
        if (_pageServer is null)
            return;
        await PageServerExit.WaitAsync(PageServerExitLimit, cancellationToken).ConfigureAwait(false);
        _pageServer = null;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        // Disposing the session ends its page server, too: one whose peer never comes would otherwise stay for ever.
        await _pageServers.DisposeAsync().ConfigureAwait(false);
        if (_pageServerExit is not null)
            await _pageServerExit.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await Criu.DisposeAsync().ConfigureAwait(false);
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
