// One request from its sending to CRIU's answer: notifications on the way, the time it may take, and how it is given up.
using System.Diagnostics;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>
/// Conducts one request. Giving up, because of the token or the time, depends on what CRIU is doing:
/// while it works inside a tree (dump, restore) nothing is torn away. CRIU has no cancel, so its next notification is refused,
/// upon which it undoes what it did and answers; only when that takes longer than EndTimeout is it killed, which is the lesser
/// evil then: killed in the middle of a dump it may leave tasks with its code still in them. Requests that touch no tree are
/// ended at once. After PostDump or PostRestore was acknowledged nothing is given up any more: the answer is moments away,
/// and without it nobody would know what became of the tree.
/// </summary>
internal sealed class CriuExchange(CriuSession session, CriuRequest request, ICriuNotifications? handler, CriuClientOptions options)
{
    private TimeSpan _remaining = request.Type == CriuRequestKind.WaitPid ? Timeout.InfiniteTimeSpan : options.RequestTimeout;
    private bool _isGivenUp;
    private bool _isPastReturn;
    private bool _hasTimedOut;
    private UnfinishedTree? _heldTree;

    /// <summary>Whether CRIU works inside a tree during such a request.</summary>
    public static bool WorksInTree(CriuRequestKind kind) => kind is CriuRequestKind.Dump or CriuRequestKind.Restore
        or CriuRequestKind.PreDump or CriuRequestKind.SinglePreDump;

    /// <summary>The exception of a handler, or null.</summary>
    public Exception? HandlerFailure { get; private set; }

    /// <summary>Whether a handler returned false.</summary>
    public bool IsRefusedByHandler { get; private set; }

    /// <summary>Whether it was given up because of the token.</summary>
    public bool IsCancelled => _isGivenUp && !_hasTimedOut;

    /// <summary>Whether PostDump or PostRestore was acknowledged.</summary>
    public bool IsPastReturn => _isPastReturn;

    /// <summary>Whether it was given up because it took too long.</summary>
    public bool HasTimedOut => _hasTimedOut;

    /// <summary>Runs the request. The answer may well say that it failed.</summary>
    /// <exception cref="SessionFailureException">The session broke. It is of no further use.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled and ended at once. The session is of no further use.</exception>
    public async Task<CriuResponse> RunAsync(CancellationToken cancellationToken)
    {
        try
        {
            var response = await ConverseAsync(cancellationToken).ConfigureAwait(false);
            // CRIU answers when it has sent its SIGKILLs; that the tree is gone is true a moment later.
            if (!response.Success && !_isPastReturn && _heldTree is not null) await _heldTree.KillAsync().ConfigureAwait(false);
            return response;
        }
        catch (SessionFailureException failure) when (request.Type == CriuRequestKind.Restore && !_isPastReturn)
        {
            await DiscardTreeAsync(failure).ConfigureAwait(false);
            throw;
        }
        finally
        {
            _heldTree?.Dispose();
        }
    }

    private async Task<CriuResponse> ConverseAsync(CancellationToken cancellationToken)
    {
        await session.SendAsync(request, cancellationToken).ConfigureAwait(false);
        while (true)
        {
            var (response, passed) = await ReceiveAsync(cancellationToken).ConfigureAwait(false);
            using (passed)
            {
                if (response.Type != CriuRequestKind.Notify) return response;
                var notification = new CriuNotification(response.Notify, passed);
                if (notification.Kind == CriuNotificationKind.PostRestore && session.ProcessId is { } criu)
                    _heldTree = UnfinishedTree.Below(criu, request.Opts is { RstSibling: true } ? notification.Pid : null);
                var answer = await AnswerAsync(notification, cancellationToken).ConfigureAwait(false);
                var returnIsPassed = answer.NotifySuccess && notification.IsPointOfNoReturn;
                if (returnIsPassed && request.Type == CriuRequestKind.Restore) session.SpareRestored();
                await session.SendAsync(answer, CancellationToken.None).ConfigureAwait(false);
                if (returnIsPassed) PassReturn();
            }
        }
    }

    private async Task<CriuMessage> ReceiveAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var token = _isGivenUp || _isPastReturn ? CancellationToken.None : cancellationToken;
            using var limited = CancellationTokenSource.CreateLinkedTokenSource(token);
            if (_remaining != Timeout.InfiniteTimeSpan) limited.CancelAfter(_remaining);
            var started = Stopwatch.GetTimestamp();
            try
            {
                var message = await session.ReceiveAsync(limited.Token).ConfigureAwait(false);
                Spend(Stopwatch.GetElapsedTime(started));
                return message;
            }
            catch (OperationCanceledException)
            {
                _hasTimedOut |= !token.IsCancellationRequested;
                if (_isGivenUp || !WorksInTree(request.Type))
                {
                    token.ThrowIfCancellationRequested();
                    throw new SessionFailureException(CriuFailure.Hung, "did not answer in time and was ended");
                }
                GiveUp();
            }
        }
    }

    // A CRIU that dies during a restore leaves tasks behind that sleep for ever. Those that it had shown us are known; a CRIU
    // that only hangs is killed here together with whatever it has made so far.
    private async Task DiscardTreeAsync(SessionFailureException failure)
    {
        if (failure.Kind == CriuFailure.Hung && session.ProcessId is { } criu)
        {
            _heldTree?.Dispose();
            _heldTree = UnfinishedTree.Below(criu, null);
            await session.DisposeAsync().ConfigureAwait(false);
        }
        if (_heldTree is not null) await _heldTree.KillAsync().ConfigureAwait(false);
    }

    private void PassReturn()
    {
        _isPastReturn = true;
        if (request.Type == CriuRequestKind.Restore && (_remaining == Timeout.InfiniteTimeSpan || _remaining > options.ResumeTimeout))
            _remaining = options.ResumeTimeout;
    }

    private void Spend(TimeSpan time)
    {
        if (_remaining != Timeout.InfiniteTimeSpan) _remaining = time < _remaining ? _remaining - time : TimeSpan.Zero;
    }

    private void GiveUp()
    {
        _isGivenUp = true;
        _remaining = options.EndTimeout;
        // A task in the making may wait for memory that nobody brings any more, and CRIU for it. It undoes all at the death of one
        if (request.Type == CriuRequestKind.Restore && !_isPastReturn && session.ProcessId is { } criu)
        {
            using var unfinished = UnfinishedTree.Below(criu, null);
            unfinished.Kill();
        }

        // Memory on its way to a page server is of no use any more. Its end makes CRIU fail at the next page, not only when all
        // of them have gone through.
        if (request.Opts?.Ps is { HasFd: true } && options.MemorySocket is { } memory)
            SocketPair.Cut(memory);
    }

    private async Task<CriuRequest> AnswerAsync(CriuNotification notification, CancellationToken cancellationToken)
    {
        var answer = new CriuRequest { Type = CriuRequestKind.Notify, NotifySuccess = true };
        if (notification.CanRefuse && !_isPastReturn && (_isGivenUp || cancellationToken.IsCancellationRequested))
        {
            if (!_isGivenUp) GiveUp();
            answer.NotifySuccess = false;
        }
        else if (handler is not null)
        {
            answer.NotifySuccess = await AskHandlerAsync(handler, notification, cancellationToken).ConfigureAwait(false);
            if (!answer.NotifySuccess && notification.CanRefuse && !_isGivenUp) (_isGivenUp, _remaining) = (true, options.EndTimeout);
            if (notification.External.Count > 0)
            {
                answer.Opts = new CriuOpts { ImagesDirFd = -1 };
                answer.Opts.External.AddRange(notification.External);
            }
        }
        return answer;
    }

    // The handler is waited for even when CRIU is dead: it is told so by its token, and it may be in the middle of something.
    private async Task<bool> AskHandlerAsync(ICriuNotifications asked, CriuNotification notification, CancellationToken cancellationToken)
    {
        using var held = _isPastReturn || _isGivenUp
            ? new CancellationTokenSource()
            : CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        using var answered = new CancellationTokenSource();
        var death = session.WaitForEndAsync(answered.Token);
        var answer = AskAsync(asked, notification, held.Token);
        var isDead = await Task.WhenAny(answer, death).ConfigureAwait(false) == death;
        await (isDead ? held : answered).CancelAsync().ConfigureAwait(false);
        await death.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        var isAcknowledged = await answer.ConfigureAwait(false);
        return isDead ? throw await session.EndedAsync().ConfigureAwait(false) : isAcknowledged;
    }

    private async Task<bool> AskAsync(ICriuNotifications asked, CriuNotification notification, CancellationToken token)
    {
        try
        {
            if (await asked.OnNotificationAsync(notification, token).ConfigureAwait(false)) return true;
            IsRefusedByHandler = true;
        }
        catch (Exception exception)
        {
            HandlerFailure = exception;
        }
        return false;
    }
}
