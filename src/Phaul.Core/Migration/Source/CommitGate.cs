// The one moment at which a migration can no longer be called off.

namespace Phaul;

/// <summary>
/// Cancellation until the commit, none after it. Ctrl+C, a lost connection and the limit on frozen time all race with the
/// commit; whoever closes the gate first wins, and the other never happens.
/// </summary>
internal sealed class CommitGate : IAsyncDisposable
{
    private const int Open = 0;
    private const int Closed = 1;
    private const int CalledOff = 2;

    private readonly CancellationTokenSource _callOff = new();
    private readonly List<CancellationTokenRegistration> _registrations = [];
    private Timer? _limit;
    private int _state = Open;

    /// <summary>Cancelled when the migration is called off; never after <see cref="TryClose"/> has succeeded.</summary>
    public CancellationToken CallOffToken => _callOff.Token;

    /// <summary>Why it was called off.</summary>
    public PhaulException? Reason { get; private set; }

    /// <summary>Calls the migration off when <paramref name="token"/> is cancelled before the commit.</summary>
    public void CallOffOn(CancellationToken token, Func<PhaulException> reason) =>
        _registrations.Add(token.Register(() => CallOff(reason)));

    /// <summary>Calls the migration off when the commit has not come after <paramref name="limit"/>.</summary>
    public void CallOffAfter(TimeSpan limit, Func<PhaulException> reason) =>
        _limit = new Timer(_ => CallOff(reason), null, limit, Timeout.InfiniteTimeSpan);

    /// <summary>From here on nothing calls off. False if it was called off before.</summary>
    public bool TryClose() => Interlocked.CompareExchange(ref _state, Closed, Open) == Open;

    /// <summary>Whether it can no longer be called off.</summary>
    public bool IsClosed => Volatile.Read(ref _state) == Closed;

    public async ValueTask DisposeAsync()
    {
        TryClose();
        // Both wait for a callback that is running, so that none finds the source disposed.
        foreach (var registration in _registrations)
            await registration.DisposeAsync().ConfigureAwait(false);
        if (_limit is not null)
            await _limit.DisposeAsync().ConfigureAwait(false);
        _callOff.Dispose();
    }

    private void CallOff(Func<PhaulException> reason)
    {
        if (Interlocked.CompareExchange(ref _state, CalledOff, Open) != Open)
            return;
        Reason = reason();
        _callOff.Cancel();
    }
}
