// What arrives on the destination for one migration: pages, the other images; and the tree that is restored from them.

using Phaul.Criu;
using Phaul.Images;
using Phaul.Images.Pages;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>Receives into the numbered directories of a work directory and restores from them.</summary>
internal sealed class Reception : IAsyncDisposable
{
    // Beside the numbered ones
    private const string LateDirectory = "late";

    private readonly PhaulConnection _connection;
    private readonly DestinationServerOptions _server;
    private readonly Begin _begin;
    private readonly ProcessOptions _options;
    private readonly string _workDirectory;
    private readonly PageReceiver _receiver;
    private readonly PhaulServer _phaul;
    private bool _restoresLazily;
    private DescriptorHolder? _holder;
    private RemotePages? _remote;
    private ReceivedIteration? _lateIteration;
    private LateImages? _late;

    private Reception(PhaulConnection connection, DestinationServerOptions server, Begin begin, ProcessOptions options, string workDirectory)
    {
        (_connection, _server, _begin, _options, _workDirectory) = (connection, server, begin, options, workDirectory);
        _receiver = new PageReceiver(connection.OpenChannel(ChannelId.Pages), new PageReceiverOptions
        {
            Format = PageServerHeader.FormatOf(begin.Survey.CriuVersion),
            AutoDedup = begin.AutoDedup,
            Durable = begin.Durable,
            MinFreeBytes = server.MinFreeBytes,
        });
        _phaul = new PhaulServer(
            new PhaulConfig
            {
                MemorySocket = null,
                WorkDirectory = workDirectory,
                CriuPath = server.CriuPath,
                Options = options,
                MigrationId = begin.MigrationId,
            },
            _receiver);
    }

    /// <summary>The newest image directory; empty before the first iteration.</summary>
    public string LastImagesDirectory => _phaul.LastImagesDirectory;

    /// <summary>Ends when the pages of the current iteration are all written; faulted if that failed.</summary>
    public Task PagesReceived => _phaul.PagesReceived;

    /// <summary>Whose pages the last iteration has, as CRIU calls them on the wire.</summary>
    public IEnumerable<ulong> Owners => _receiver.Iterations.Count > 0 ? _receiver.Iterations[^1].Images.Select(image => image.Owner.OnWire) : [];

    /// <summary>Bytes of the page stream so far.</summary>
    public long PageBytes => _receiver.BytesReceived + (_remote?.BytesReceived ?? 0);

    /// <summary>Whether memory follows from the source when the program runs.</summary>
    public bool MemoryFollows => _remote is not null;

    /// <summary>Why it will not follow any more; null as long as it does.</summary>
    public PhaulException? MemoryFault => _remote?.Fault;

    /// <summary>Bytes of the other images so far.</summary>
    public long ImageBytes { get; private set; }

    /// <summary>Gets ready all that can be before the program is frozen.</summary>
    /// <exception cref="CriuException">CRIU does not start.</exception>
    public static async Task<Reception> OpenAsync(
        PhaulConnection connection, DestinationServerOptions server, Begin begin, ProcessOptions options, string workDirectory,
        CancellationToken cancellationToken)
    {
        var reception = new Reception(connection, server, begin, options, workDirectory);
        try
        {
            await reception._phaul.WarmUpAsync(cancellationToken).ConfigureAwait(false);
            reception._restoresLazily =
                !begin.EagerRestore && await LazyPagesDaemon.IsSupportedAsync(server.CriuPath, cancellationToken).ConfigureAwait(false);
            if (reception._restoresLazily)
                reception._holder = DescriptorHolder.Start(Path.Combine(workDirectory, LateDirectory));
            await JitWarmUp.Completion.WaitAsync(cancellationToken).ConfigureAwait(false);
            return reception;
        }
        catch
        {
            await reception.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Begins the next iteration.</summary>
    /// <exception cref="PhaulException">CheckFailed: there is too little room; or the directory cannot be made.</exception>
    public Task StartIterationAsync(long expectedBytes, CancellationToken cancellationToken)
    {
        RequireSpace(expectedBytes);
        return _phaul.StartIterationAsync(cancellationToken);
    }

    /// <summary>Begins the last iteration, whose lazy pages stay on the source until the program here asks for them.</summary>
    /// <exception cref="PhaulException">CheckFailed: memory cannot be given late on this host; or the directory cannot be made.</exception>
    public void StartLateIteration()
    {
        if (!_restoresLazily)
            throw new PhaulException(PhaulErrorId.CheckFailed, "Memory cannot follow a program on this host: CRIU finds no userfaultfd that it could use");
        _phaul.StartIterationWithoutPages();
        _remote = new RemotePages(_connection.OpenChannel(ChannelId.Pages));
    }

    /// <summary>All memory is here: the source is told that it may let go of it.</summary>
    public Task EndRemoteAsync(CancellationToken cancellationToken) => _remote?.CloseAsync(cancellationToken) ?? Task.CompletedTask;

    /// <summary>Waits until the iteration's pages are written.</summary>
    /// <exception cref="PhaulException">PageTransferFailed: some are missing.</exception>
    public Task StopIterationAsync(CancellationToken cancellationToken) => _phaul.StopIterationAsync(cancellationToken);

    /// <summary>Receives the images that are not pages.</summary>
    /// <exception cref="PhaulException">ImageTransferFailed.</exception>
    public async Task<ImageTotals> ReceiveImagesAsync(CancellationToken cancellationToken)
    {
        var totals = await ImageReceiver.ReceiveAsync(
            LastImagesDirectory, _connection.OpenChannel(ChannelId.Images), new ImageLimits { MinFreeBytes = _server.MinFreeBytes },
            _begin.Durable, cancellationToken: cancellationToken).ConfigureAwait(false);
        ImageBytes += totals.Bytes;
        return totals;
    }

    /// <summary>Restores and holds, with most of the memory to follow where that is possible.</summary>
    /// <param name="story">Told why it was not, if it was tried.</param>
    /// <exception cref="CriuException">CRIU could not restore it; nothing is left of it.</exception>
    public async Task<HeldTree> RestoreAsync(Action<string> story, CancellationToken cancellationToken)
    {
        if (MemoryFollows)
            return await RestoreWithMemoryToFollowAsync(cancellationToken).ConfigureAwait(false);
        if (_restoresLazily)
        {
            try
            {
                if (LateImagesOf(LastImagesDirectory) is { } late)
                    return await RestoreLazilyAsync(late, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception exception) when (exception is CriuException { Kind: CriuFailure.Refused } or PhaulException
                && !cancellationToken.IsCancellationRequested)
            {
                // Whatever was wrong with that, the other way may do, and the program waits.
                story($"Restored with all memory at once, for memory on demand failed: {exception.Message}");
            }
        }

        return await RestoreEagerlyAsync(cancellationToken).ConfigureAwait(false);
    }

    private Task<HeldTree> RestoreWithMemoryToFollowAsync(CancellationToken cancellationToken)
    {
        if (_late is null)
        {
            _lateIteration ??= ReceivedIteration.Load(LastImagesDirectory, _receiver.Iterations.Count > 0 ? _receiver.Iterations[^1] : null);
            var store = PageStore.Compose(_lateIteration, Path.Combine(_workDirectory, LateDirectory), _remote)!;
            _late = new LateImages(store.ImagesDirectory, LastImagesDirectory, store);
        }

        return RestoreLazilyAsync(_late, cancellationToken);
    }

    private Task<HeldTree> RestoreLazilyAsync(LateImages late, CancellationToken cancellationToken) => HeldTree.RestoreLazilyAsync(
        _phaul.Criu, _server.CriuPath, late, _options, cancellationToken, late.Store is null ? null : TakeHolder());

    /// <summary>What to restore from if most of the memory is to follow; null: that is not worth while.</summary>
    private LateImages? LateImagesOf(string lastImages)
    {
        // Of a single dump criu lazy-pages reads the images by itself, and goes on if this process dies
        if (_receiver.Iterations.Count == 1)
            return new LateImages(lastImages, lastImages);
        var store = PageStore.Compose(_receiver.Iterations[^1], Path.Combine(_workDirectory, LateDirectory));
        return store is null ? null : new LateImages(store.ImagesDirectory, lastImages, store);
    }

    /// <summary>Restores and holds once more, with all memory that is here.</summary>
    /// <exception cref="CriuException">CRIU could not restore it; nothing is left of it.</exception>
    public Task<HeldTree> RestoreAgainAsync(CancellationToken cancellationToken) => MemoryFollows
        ? RestoreWithMemoryToFollowAsync(cancellationToken)
        : RestoreEagerlyAsync(cancellationToken);

    private Task<HeldTree> RestoreEagerlyAsync(CancellationToken cancellationToken) =>
        HeldTree.RestoreEagerlyAsync(_phaul.Criu, LastImagesDirectory, _options, cancellationToken);

    /// <summary>No more pages will come. What was received stays, and can be restored from until the end.</summary>
    public async ValueTask EndPagesAsync()
    {
        await _phaul.EndPagesAsync().ConfigureAwait(false);
        if (_remote is not null)
            await _remote.DisposeAsync().ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _phaul.DisposeAsync().ConfigureAwait(false);
        if (_remote is not null)
            await _remote.DisposeAsync().ConfigureAwait(false);
        if (TakeHolder() is { } unused)
            await unused.DisposeAsync().ConfigureAwait(false);
        _lateIteration?.Dispose();
        _receiver.Dispose();
    }

    private DescriptorHolder? TakeHolder() => Interlocked.Exchange(ref _holder, null);

    private void RequireSpace(long bytes)
    {
        var free = FileSystemSpace.AvailableBytes(_workDirectory);
        if (free - bytes < _server.MinFreeBytes)
        {
            throw new PhaulException(
                PhaulErrorId.CheckFailed, $"{bytes >> 20} MiB are expected, but only {free >> 20} MiB are free below {_workDirectory}")
            {
                RecommendedAction = "Free space there, or name another work directory for the server.",
            };
        }
    }
}
