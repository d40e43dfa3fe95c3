// The one object through which a CRIU is driven.
using System.Runtime.ExceptionServices;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>
/// Drives a CRIU: a <c>criu swrk</c> process of its own, or a running service. Requests are made one after the other. CRIU ends
/// after most of them, and another is started for the next; only versions, features, CPU checks and pre-dumps share one.
/// </summary>
/// <remarks>
/// Descriptors in <see cref="CriuOpts"/> are numbers in this process (they may be closed as soon as a method was called), but
/// for <c>ps.fd</c> and <c>inherit_fd</c>: those are CRIU's own, see <see cref="MemoryDescriptor"/> and
/// <see cref="CriuClientOptions.InheritedDescriptors"/>. Every request throws <see cref="CriuException"/> for all that can go
/// wrong with CRIU.
/// </remarks>
/// <example>
/// <code>
/// await using var criu = new CriuClient(new CriuClientOptions { MemorySocket = socket });
/// var options = new CriuOpts { Pid = pid, ImagesDirFd = directory, Ps = new PageServerInfo { Fd = criu.MemoryDescriptor } };
/// await criu.DumpAsync(options, CriuNotifications.At(CriuNotificationKind.PostDump, SendImagesAsync), cancellationToken);
/// </code>
/// </example>
public sealed class CriuClient : IAsyncDisposable
{
    private readonly CriuClientOptions _options;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly CancellationTokenSource _disposing = new();
    private readonly List<PageServerChild> _pageServers = [];
    private CriuSession? _session;
    private bool _isDisposed;

    /// <summary>Makes a client. Nothing is started yet.</summary>
    /// <exception cref="ArgumentException">The options contradict each other.</exception>
    public CriuClient(CriuClientOptions? options = null)
    {
        _options = options ?? new CriuClientOptions();
        if (_options.ServiceSocketPath is not null && (_options.MemorySocket is not null || _options.InheritedDescriptors.Count > 0))
            throw new ArgumentException("A CRIU service cannot inherit descriptors.", nameof(options));
        if (_options.InheritedDescriptors.Keys.Any(number => number is <= CriuSession.MemoryDescriptor or > 63))
            throw new ArgumentException("Inherited descriptors are numbered 5 to 63.", nameof(options));
    }

    /// <summary>The number under which CRIU knows the memory socket: for <c>ps.fd</c>.</summary>
    /// <exception cref="InvalidOperationException">It was given none.</exception>
    public int MemoryDescriptor => _options.MemorySocket is null
        ? throw new InvalidOperationException("This CRIU was given no memory socket.")
        : CriuSession.MemoryDescriptor;

    /// <summary>What it was made with.</summary>
    public CriuClientOptions Options => _options;

    /// <summary>Starts CRIU now, so that the next request need not, and sees that it answers.</summary>
    /// <exception cref="CriuException">It is absent or does not work.</exception>
    public Task OpenAsync(CancellationToken cancellationToken = default) => GetVersionAsync(cancellationToken);

    /// <summary>Asks for CRIU's version.</summary>
    /// <exception cref="CriuException">It is absent or does not work.</exception>
    public Task<CriuVersion> GetVersionAsync(CancellationToken cancellationToken = default) =>
        RunAsync(
            new CriuRequest { Type = CriuRequestKind.Version, KeepOpen = true },
            null,
            response => response.Version is { } version
                ? new CriuVersion(version.Major, version.Minor, version.Sublevel, version.HasGitId ? version.GitId : null)
                : null,
            cancellationToken);

    /// <summary>Asks which features this CRIU has on this kernel.</summary>
    /// <exception cref="CriuException">It cannot find out.</exception>
    public Task<CriuFeatures> CheckFeaturesAsync(CancellationToken cancellationToken = default) =>
        RunAsync(
            new CriuRequest
            {
                Type = CriuRequestKind.FeatureCheck,
                KeepOpen = true,
                Features = new CriuFeatures { MemTrack = true, LazyPages = true, PidfdStore = true },
            },
            null,
            response => response.Features,
            cancellationToken);

    /// <summary>Checks that the kernel can do what CRIU needs.</summary>
    /// <exception cref="CriuException">It cannot.</exception>
    public async Task CheckAsync(CriuOpts? options = null, CancellationToken cancellationToken = default)
    {
        // CRIU 4.1 checks nothing, and says that it failed, unless it is given a directory; with its log elsewhere it writes none there.
        using var anywhere = DirectoryDescriptor.Open("/");
        options ??= new CriuOpts { ImagesDirFd = (int)anywhere.DangerousGetHandle(), LogToStderr = true };
        await RunAsync(new CriuRequest { Type = CriuRequestKind.Check, Opts = options }, null, Itself, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Writes an image that describes this host's processor.</summary>
    /// <exception cref="CriuException">It failed.</exception>
    public Task CpuInfoDumpAsync(CriuOpts options, CancellationToken cancellationToken = default) =>
        RunAsync(
            new CriuRequest { Type = CriuRequestKind.CpuinfoDump, KeepOpen = true, Opts = options }, null, Itself, cancellationToken);

    /// <summary>Checks that what ran on the processor of an image can run on this host's.</summary>
    /// <exception cref="CriuException">It cannot (errno ENOTSUP), or the check failed.</exception>
    public Task CpuInfoCheckAsync(CriuOpts options, CancellationToken cancellationToken = default) =>
        RunAsync(
            new CriuRequest { Type = CriuRequestKind.CpuinfoCheck, KeepOpen = true, Opts = options }, null, Itself, cancellationToken);

    /// <summary>
    /// Writes the memory that changed since the last one, while the tree runs on. Further pre-dumps and the dump use the same CRIU.
    /// </summary>
    /// <exception cref="CriuException">It failed; the tree runs on.</exception>
    public Task PreDumpAsync(CriuOpts options, ICriuNotifications? notifications = null, CancellationToken cancellationToken = default) =>
        RunAsync(new CriuRequest { Type = CriuRequestKind.PreDump, Opts = options }, notifications, Itself, cancellationToken);

    /// <summary>A pre-dump after which CRIU ends.</summary>
    /// <exception cref="CriuException">It failed; the tree runs on.</exception>
    public Task SinglePreDumpAsync(
        CriuOpts options, ICriuNotifications? notifications = null, CancellationToken cancellationToken = default) =>
        RunAsync(new CriuRequest { Type = CriuRequestKind.SinglePreDump, Opts = options }, notifications, Itself, cancellationToken);

    /// <summary>
    /// Dumps a tree, which is gone afterwards (unless leave_running or leave_stopped is set). Refused in
    /// <see cref="CriuNotificationKind.PostDump"/> or before, or cancelled before that is acknowledged, the tree runs on.
    /// </summary>
    /// <exception cref="CriuException">
    /// It failed. <see cref="CriuFailure.Refused"/>: CRIU has undone it and the tree runs on. Otherwise look at the tree.
    /// </exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and CRIU has undone it.</exception>
    /// <remarks>What a handler throws is thrown from here, once CRIU has undone the dump.</remarks>
    public Task<DumpOutcome> DumpAsync(
        CriuOpts options, ICriuNotifications? notifications = null, CancellationToken cancellationToken = default) =>
        RunAsync(
            // Always with notifications: without one to refuse, a dump that is given up would go through and kill the tree.
            new CriuRequest { Type = CriuRequestKind.Dump, Opts = new CriuOpts(options) { NotifyScripts = true } },
            notifications,
            response => new DumpOutcome(response.Dump?.Restored ?? false),
            cancellationToken);

    /// <summary>
    /// Restores a tree, which runs afterwards. Refused in <see cref="CriuNotificationKind.PostRestore"/> or before, or cancelled
    /// before that is acknowledged, it is gone and has not run.
    /// </summary>
    /// <returns>The pid of the tree's root.</returns>
    /// <exception cref="CriuException">It failed.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, and CRIU has undone it.</exception>
    /// <remarks>What a handler throws is thrown from here, once CRIU has undone the restore.</remarks>
    public async Task<int> RestoreAsync(
        CriuOpts options, ICriuNotifications? notifications = null, CancellationToken cancellationToken = default) =>
        (await RunAsync(
            new CriuRequest { Type = CriuRequestKind.Restore, Opts = new CriuOpts(options) { NotifyScripts = true } },
            notifications,
            response => response.Restore,
            cancellationToken).ConfigureAwait(false)).Pid;

    /// <summary>Starts a page server for one connection, as a process that ends with whoever holds the result.</summary>
    /// <exception cref="CriuException">It failed.</exception>
    public async Task<PageServerChild> StartPageServerAsync(CriuOpts options, CancellationToken cancellationToken = default)
    {
        var request = new CriuRequest { Type = CriuRequestKind.PageServerChild, KeepOpen = true, Opts = options };
        using var held = HeldDescriptors.Of(request);
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            var server = await ExchangeAsync(request, null, ServerOf, cancellationToken).ConfigureAwait(false);
            // Only this swrk can wait for its child, and other requests would end it: it now belongs to the child.
            var session = _session!;
            _session = null;
            PageServerChild child;
            try
            {
                child = new PageServerChild(server.Pid, server.Port, session, _options);
            }
            catch
            {
                await session.DisposeAsync().ConfigureAwait(false);
                throw;
            }
            _pageServers.RemoveAll(other => other.IsDisposed);
            _pageServers.Add(child);
            return child;
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Starts a page server as a daemon, which nobody ends but its own last byte.</summary>
    /// <returns>Its pid and port.</returns>
    /// <exception cref="CriuException">It failed.</exception>
    public Task<PageServerInfo> StartPageServerDaemonAsync(CriuOpts options, CancellationToken cancellationToken = default) =>
        RunAsync(
            new CriuRequest { Type = CriuRequestKind.PageServer, KeepOpen = true, Opts = options }, null, ServerOf, cancellationToken);

    /// <summary>Waits for a process that CRIU started: one of <see cref="StartPageServerAsync"/>.</summary>
    /// <returns>How it ended.</returns>
    /// <exception cref="CriuException">It is no child of this CRIU (errno ECHILD).</exception>
    public async Task<ExitStatus> WaitPidAsync(int pid, CancellationToken cancellationToken = default)
    {
        PageServerChild? child;
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            child = _pageServers.Find(server => server.Pid == pid && !server.IsDisposed);
        }
        finally
        {
            _turn.Release();
        }
        if (child is not null) return await child.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        var request = new CriuRequest { Type = CriuRequestKind.WaitPid, Pid = (uint)pid };
        var response = await RunAsync(request, null, answer => answer.HasStatus ? answer : null, cancellationToken).ConfigureAwait(false);
        return ExitStatus.FromWaitStatus(response.Status);
    }

    /// <summary>Kills CRIU in the middle of whatever it does: a tree that it has frozen runs on.</summary>
    internal void Kill() => _session?.Kill();

    /// <summary>Gives up the request that is running, if there is one, and ends CRIU and the page servers that it started.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_isDisposed) return;
        await _disposing.CancelAsync().ConfigureAwait(false);
        await _turn.WaitAsync(CancellationToken.None).ConfigureAwait(false);
        _isDisposed = true;
        foreach (var server in _pageServers) await server.DisposeAsync().ConfigureAwait(false);
        await EndSessionAsync().ConfigureAwait(false);
        _turn.Release();
        _disposing.Dispose();
    }

    private static CriuResponse Itself(CriuResponse response) => response;

    private static PageServerInfo? ServerOf(CriuResponse response) => response.Ps is { HasPid: true } server ? server : null;

    private async Task<T> RunAsync<T>(
        CriuRequest request, ICriuNotifications? notifications, Func<CriuResponse, T?> read, CancellationToken cancellationToken)
        where T : class
    {
        using var held = HeldDescriptors.Of(request);
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return await ExchangeAsync(request, notifications, read, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<T> ExchangeAsync<T>(
        CriuRequest request, ICriuNotifications? notifications, Func<CriuResponse, T?> read, CancellationToken cancellationToken)
        where T : class
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _disposing.Token);
        try
        {
            var session = await SessionForAsync(request).ConfigureAwait(false);
            var answer = await CriuAnswer.OfAsync(session, request, notifications, _options, either.Token).ConfigureAwait(false);
            session.IsPreDumping = request.Type == CriuRequestKind.PreDump;
            if (!request.KeepOpen && !session.IsPreDumping) await EndSessionAsync(_options.EndTimeout).ConfigureAwait(false);
            return read(answer) ?? throw new CriuException(CriuFailure.Garbage, request.Type, "answered without what was asked for");
        }
        catch (Exception exception)
        {
            // A keep-open request that was merely refused would leave the session usable; a new one is cheap and beyond doubt.
            await EndSessionAsync(GraceAfter(exception, request.Type)).ConfigureAwait(false);
            if (exception is OperationCanceledException) cancellationToken.ThrowIfCancellationRequested();
            if (exception is OperationCanceledException && _disposing.IsCancellationRequested)
                throw new ObjectDisposedException(nameof(CriuClient));
            ExceptionDispatchInfo.Throw(exception);
            throw;
        }
    }

    private async Task<CriuSession> SessionForAsync(CriuRequest request)
    {
        var fits = _session is { IsBroken: false } open
            && (!open.IsPreDumping || request.Type is CriuRequestKind.PreDump or CriuRequestKind.Dump);
        if (!fits) await EndSessionAsync().ConfigureAwait(false);
        try
        {
            return _session ??= CriuSession.Open(_options);
        }
        catch (SessionFailureException failure)
        {
            throw new CriuException(failure.Kind, request.Type, failure.Message, inner: failure.InnerException);
        }
    }

    // A CRIU that works in no tree can be killed at any time. One that does gets the time to leave it, unless it has had that.
    private TimeSpan? GraceAfter(Exception exception, CriuRequestKind request) => exception switch
    {
        CriuException { Kind: CriuFailure.Hung } => TimeSpan.Zero,
        CriuException { Kind: CriuFailure.Refused } => _options.EndTimeout,
        _ => CriuExchange.WorksInTree(request) ? _options.EndTimeout : TimeSpan.Zero,
    };

    private async Task EndSessionAsync(TimeSpan? grace = null)
    {
        if (_session is not { } session) return;
        _session = null;
        await session.EndAsync(grace).ConfigureAwait(false);
    }
}
