// A token bucket: a migration must not starve the network that it shares.

namespace Phaul.Transport;

/// <summary>
/// Limits how many bytes pass in a second. Whoever takes more than there is goes into debt and waits until it is paid, so that
/// the rate holds for pieces of any size.
/// </summary>
public sealed class BandwidthLimit : IDisposable
{
    // What may pass at once after a pause: long enough for a timer to be precise, short enough not to be a burst on the wire.
    private static readonly TimeSpan Burst = TimeSpan.FromMilliseconds(50);

    private readonly object _sync = new();
    private readonly TimeProvider _time;
    private readonly CancellationTokenSource _lifted = new();
    private readonly double _capacity;
    private double _available;
    private long _refilled;

    /// <summary>Makes a full bucket.</summary>
    /// <param name="bytesPerSecond">The limit, at least 1.</param>
    /// <param name="time">The clock; null for the system's.</param>
    /// <exception cref="ArgumentOutOfRangeException">The limit is not positive.</exception>
    public BandwidthLimit(long bytesPerSecond, TimeProvider? time = null)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bytesPerSecond);
        BytesPerSecond = bytesPerSecond;
        _time = time ?? TimeProvider.System;
        _capacity = bytesPerSecond * Burst.TotalSeconds;
        _available = _capacity;
        _refilled = _time.GetTimestamp();
    }

    /// <summary>The limit.</summary>
    public long BytesPerSecond { get; }

    /// <summary>Takes bytes, and waits until they may pass.</summary>
    public ValueTask TakeAsync(int bytes, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        if (_lifted.IsCancellationRequested)
            return ValueTask.CompletedTask;
        var wait = Take(bytes);
        return wait <= TimeSpan.Zero ? ValueTask.CompletedTask : WaitAsync(wait, cancellationToken);
    }

    /// <summary>Ends the limit: those who wait go on at once.</summary>
    public void Lift() => _lifted.Cancel();

    /// <inheritdoc/>
    public void Dispose() => _lifted.Dispose();

    private TimeSpan Take(int bytes)
    {
        lock (_sync)
        {
            var now = _time.GetTimestamp();
            _available = Math.Min(_capacity, _available + BytesPerSecond * _time.GetElapsedTime(_refilled, now).TotalSeconds);
            _refilled = now;
            _available -= bytes;
            return _available >= 0 ? TimeSpan.Zero : TimeSpan.FromSeconds(-_available / BytesPerSecond);
        }
    }

    private async ValueTask WaitAsync(TimeSpan wait, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _lifted.Token);
        await Task.Delay(wait, _time, either.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cancellationToken.ThrowIfCancellationRequested();
    }
}
