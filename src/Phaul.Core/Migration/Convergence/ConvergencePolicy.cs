// When to stop copying and hand over: a pure function from the iterations so far to a decision and its reason.

namespace Phaul;

/// <summary>What the policy needs to know of one finished pre-dump.</summary>
/// <param name="PagesWritten">Pages written.</param>
/// <param name="BytesSent">Bytes that CRIU handed over, page headers included.</param>
/// <param name="Duration">The time it took.</param>
/// <param name="FrozenTime">How long the program was frozen in it.</param>
/// <param name="SincePrevious">The time between the beginnings of the previous iteration and this one; null for the first.</param>
public sealed record IterationFigures(
    long PagesWritten, long BytesSent, TimeSpan Duration, TimeSpan FrozenTime, TimeSpan? SincePrevious = null)
{
    /// <summary>Bytes per second moved.</summary>
    public double BytesPerSecond => Duration > TimeSpan.Zero ? BytesSent / Duration.TotalSeconds : 0;
}

/// <summary>A decision, and why.</summary>
/// <param name="Decision">Continue or HandOver.</param>
/// <param name="Reason">In words, with the figures that decided.</param>
/// <param name="PredictedDowntime">The downtime expected if the hand-over came now; null where it is not predicted.</param>
public sealed record ConvergenceVerdict(IterationDecision Decision, string Reason, TimeSpan? PredictedDowntime);

/// <summary>Decides after each pre-dump.</summary>
public static class ConvergencePolicy
{
    /// <summary>
    /// What a hand-over costs beyond moving pages: CRIU's dump of everything but memory, images, restore. Assumed where no earlier one was measured.
    /// </summary>
    public static readonly TimeSpan DefaultFixedCost = TimeSpan.FromMilliseconds(150);

    // An iteration that leaves more than this share of the one before is not worth another round: it would win
    // less than a tenth of the remaining downtime for a whole round of load on program and network.
    private const double WorthwhileShrinking = 0.9;

    /// <summary>Decides after the last of <paramref name="history"/>.</summary>
    /// <param name="history">The pre-dumps so far, at least one.</param>
    /// <param name="options">The limits.</param>
    /// <param name="fixedCost">The hand-over's cost beyond moving pages; null for <see cref="DefaultFixedCost"/>.</param>
    /// <exception cref="ArgumentException">There is no iteration to decide on.</exception>
    public static ConvergenceVerdict Decide(
        IReadOnlyList<IterationFigures> history, ConvergenceOptions options, TimeSpan? fixedCost = null)
    {
        if (history.Count == 0)
            throw new ArgumentException("There is no iteration to decide on.", nameof(history));

        var last = history[^1];
        var previous = history.Count > 1 ? history[^2] : null;
        var predicted = Predict(history, fixedCost ?? DefaultFixedCost);

        if (options.MaxDowntime is { } limit)
        {
            if (predicted <= limit)
                return HandOver($"the predicted downtime of {Show(predicted)} is within the {Show(limit)} asked for");
            if (history.Count >= options.MaxIterations)
                return HandOver($"{history.Count} iterations are the limit; the predicted downtime of {Show(predicted)} exceeds {Show(limit)}");
            // The first iteration wrote everything there was, so only later ones can be compared.
            if (history.Count > 2 && last.PagesWritten > previous!.PagesWritten * WorthwhileShrinking)
                return HandOver(
                    $"another round would not help: {last.PagesWritten} pages after {previous.PagesWritten}; " +
                    $"the predicted downtime of {Show(predicted)} exceeds {Show(limit)}");
            return new ConvergenceVerdict(
                IterationDecision.Continue, $"the predicted downtime of {Show(predicted)} exceeds the {Show(limit)} asked for", predicted);
        }

        if (history.Count >= options.MaxIterations)
            return HandOver($"{history.Count} iterations are the limit");
        if (last.PagesWritten < options.MinPages)
            return HandOver($"{last.PagesWritten} pages written, fewer than {options.MinPages}");
        if (previous is not null && last.PagesWritten - previous.PagesWritten >= options.MaxGrowth)
            return HandOver(
                $"it grows: {last.PagesWritten} pages after {previous.PagesWritten}, by {options.MaxGrowth} or more");
        return new ConvergenceVerdict(IterationDecision.Continue, $"{last.PagesWritten} pages written", predicted);

        ConvergenceVerdict HandOver(string reason) => new(IterationDecision.HandOver, reason, predicted);
    }

    /// <summary>
    /// Expects the final dump to write as many pages as the program dirtied during the last iteration, at the best
    /// throughput seen (small iterations measure round trips, not the link), plus the fixed cost and the freeze of a pre-dump.
    /// </summary>
    private static TimeSpan Predict(IReadOnlyList<IterationFigures> history, TimeSpan fixedCost)
    {
        var last = history[^1];
        var throughput = history.Max(figures => figures.BytesPerSecond);
        double bytes = last.BytesSent;
        // After the first iteration everything was written; what matters is what was dirtied meanwhile, which is not known
        // yet. A program cannot dirty more than it has, so the whole is the safe guess.
        if (last.SincePrevious is { } interval && interval > TimeSpan.Zero)
            bytes = Math.Min(bytes, bytes / interval.TotalSeconds * last.Duration.TotalSeconds);
        var moving = throughput > 0 ? TimeSpan.FromSeconds(Math.Min(bytes / throughput, TimeSpan.MaxValue.TotalSeconds / 4)) : TimeSpan.Zero;
        // What the last pre-dump kept it frozen for is what looking at the program costs; the final dump looks, too.
        return moving + fixedCost + last.FrozenTime;
    }

    private static string Show(TimeSpan time) =>
        time < TimeSpan.FromSeconds(10) ? $"{time.TotalMilliseconds:0} ms" : $"{time.TotalSeconds:0.0} s";
}
