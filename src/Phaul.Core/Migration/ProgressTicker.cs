// Tells observers a few times a second how far a migration is.

using System.Diagnostics;

namespace Phaul;

/// <summary>Samples a byte counter; the rate is that of the last second or so.</summary>
internal sealed class ProgressTicker : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);
    private const int SamplesInRate = 5;

    private readonly MigrationRecorder _recorder;
    private readonly Func<long> _bytes;
    private readonly long _expected;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _ticking;

    public ProgressTicker(MigrationRecorder recorder, Func<long> bytes, long expectedBytes)
    {
        (_recorder, _bytes, _expected) = (recorder, bytes, expectedBytes);
        _ticking = TickAsync();
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync().ConfigureAwait(false);
        await _ticking.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _end.Dispose();
    }

    private async Task TickAsync()
    {
        using var timer = new PeriodicTimer(Interval);
        var samples = new Queue<(long Bytes, TimeSpan Time)>();
        var clock = Stopwatch.StartNew();
        samples.Enqueue((_bytes(), TimeSpan.Zero));
        var iterations = -1;
        long before = 0;
        while (await timer.WaitForNextTickAsync(_end.Token).ConfigureAwait(false))
        {
            var (bytes, now) = (_bytes(), clock.Elapsed);
            var oldest = samples.Count >= SamplesInRate ? samples.Dequeue() : samples.Peek();
            samples.Enqueue((bytes, now));
            var finished = _recorder.Iterations.Count;
            if (finished != iterations)
                (iterations, before) = (finished, finished == 0 ? 0 : bytes);
            var rate = (bytes - oldest.Bytes) / Math.Max(0.001, (now - oldest.Time).TotalSeconds);
            // Only the first iteration is known to send about all there is.
            _recorder.Tell(new ProgressEvent(
                _recorder.MigrationId, DateTimeOffset.Now, _recorder.State, finished + 1, bytes - before,
                finished == 0 && _expected > 0 ? _expected : null, rate));
        }
    }
}
