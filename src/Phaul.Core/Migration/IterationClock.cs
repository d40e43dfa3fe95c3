// Measures one iteration and makes its record.

using System.Diagnostics;
using Phaul.Images;

namespace Phaul;

/// <summary>Started when an iteration starts; turns CRIU's statistics into the iteration's record.</summary>
internal sealed class IterationClock
{
    private static readonly long PageSize = Environment.SystemPageSize;

    private readonly DateTimeOffset _startTime = DateTimeOffset.Now;
    private readonly Stopwatch _elapsed = Stopwatch.StartNew();
    private readonly long _bytesBefore;
    private TimeSpan? _duration;

    private IterationClock(long bytesBefore) => _bytesBefore = bytesBefore;

    public static IterationClock Start(PhaulConfig config) => new(config.PageByteCounter?.Invoke() ?? 0);

    public IterationFigures Figures(PhaulConfig config, DumpStatistics statistics, TimeSpan? sincePrevious) =>
        new(statistics.TotalPagesWritten, Bytes(config, statistics), Duration, statistics.FrozenTime, sincePrevious);

    public PhaulIteration Finish(
        PhaulConfig config, int index, IterationKind kind, DumpStatistics statistics, IReadOnlyList<IterationFigures> history,
        ConvergenceVerdict verdict)
    {
        var bytes = Bytes(config, statistics);
        var interval = kind == IterationKind.PreDump && history.Count > 0 ? history[^1].SincePrevious : null;
        return new PhaulIteration
        {
            MigrationId = config.MigrationId ?? "",
            Index = index,
            Kind = kind,
            StartTime = _startTime,
            Duration = Duration,
            FrozenTime = statistics.FrozenTime,
            PagesScanned = statistics.TotalPagesScanned,
            PagesSkipped = statistics.TotalPagesSkippedParent,
            PagesWritten = statistics.TotalPagesWritten,
            BytesSent = bytes,
            DirtyBytesPerSecond = interval is { } time && time > TimeSpan.Zero
                ? statistics.TotalPagesWritten * PageSize / time.TotalSeconds
                : null,
            BytesPerSecond = Duration > TimeSpan.Zero ? bytes / Duration.TotalSeconds : 0,
            PredictedDowntime = verdict.PredictedDowntime,
            Decision = verdict.Decision,
            Reason = verdict.Reason,
        };
    }

    private TimeSpan Duration => _duration ??= _elapsed.Elapsed;

    // Without a relay of ours nobody counts the stream; the pages alone are all but a thousandth of it.
    private long Bytes(PhaulConfig config, DumpStatistics statistics) =>
        config.PageByteCounter is { } counter ? counter() - _bytesBefore : statistics.TotalPagesWritten * PageSize;
}
