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
    private readonly Func<bool> _follows;
    private readonly CancellationToken _broken;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _ticking;

    /// <summary>Begins.</summary>
    /// <param name="recorder">Who is told.</param>
    /// <param name="bytes">What has moved.</param>
    /// <param name="expectedBytes">What the first iteration moves.</param>
    /// <param name="follows">Whether the program runs already.</param>
    /// <param name="broken">Nothing moves any more: there is nothing to tell.</param>
    public ProgressTicker(MigrationRecorder recorder, Func<long> bytes, long expectedBytes, Func<bool> follows, CancellationToken broken)
    {
        (_recorder, _bytes, _expected, _follows, _broken) = (recorder, bytes, expectedBytes, follows, broken);
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
        while (await timer.WaitForNextTickAsync(_end.Token).ConfigureAwait(false) && !_broken.IsCancellationRequested)
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
                finished == 0 && _expected > 0 ? _expected : null, rate)
            {
                MemoryFollows = _follows(),
            });
        }
    }
}
