// What a hand-over has cost beyond moving pages: measured in the journals of those that went the same way.

using Phaul.Journal;

namespace Phaul;

/// <summary>Learns from earlier migrations what <see cref="ConvergencePolicy.Decide"/> would otherwise assume.</summary>
internal static class HandOverCost
{
    // Enough that one on a busy day does not count alone; few enough that a host that was replaced is soon known
    private const int Wanted = 5;
    private const int LookedAt = 50;

    /// <summary>The median of the last hand-overs after iterations from here to a host; of two the lower, for one may have met with an accident.</summary>
    /// <param name="directory">The source's records.</param>
    /// <param name="host">The destination, as it calls itself.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <returns>Null: there was none that can still be read.</returns>
    public static async Task<TimeSpan?> MeasuredAsync(StateDirectory directory, string host, CancellationToken cancellationToken = default)
    {
        var costs = new List<TimeSpan>();
        foreach (var id in Latest(directory))
        {
            if (await OfAsync(directory, id, host, cancellationToken).ConfigureAwait(false) is { } cost)
                costs.Add(cost);
            if (costs.Count == Wanted)
                break;
        }

        return costs.Count == 0 ? null : costs.Order().ElementAt((costs.Count - 1) / 2);
    }

    // What cannot be read says nothing: a migration does not fail for want of a forecast
    private static IEnumerable<string> Latest(StateDirectory directory)
    {
        try
        {
            return directory.Migrations().Take(LookedAt);
        }
        catch (PhaulException)
        {
            return [];
        }
    }

    private static async Task<TimeSpan?> OfAsync(StateDirectory directory, string id, string host, CancellationToken cancellationToken)
    {
        try
        {
            if (!directory.Sides(id).Contains(MigrationSide.Source))
                return null;
            var contents = await JournalReader.ReadAsync(directory.JournalPath(id, MigrationSide.Source), cancellationToken).ConfigureAwait(false);
            return contents.Records.OfType<Finished>().LastOrDefault() is { Result: var result } && result.DestinationHost == host && IsOrdinary(contents.Records)
                ? Of(result, [.. contents.Records.OfType<IterationFinished>().Select(record => record.Iteration)])
                : null;
        }
        catch (Exception exception) when (exception is PhaulException or IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Phaul's own, for an engine of one's own takes its own time, and without anything from the commit on that was worth a warning.</summary>
    private static bool IsOrdinary(IReadOnlyList<JournalRecord> records) =>
        !records.Any(record => record is EngineOfOwn)
        && !records.SkipWhile(record => record is not StateEntered { Change.State: MigrationState.Committing }).Any(record => record is Warning);

    /// <summary>
    /// What one hand-over took beyond what the policy expects of the pages: the same reckoning, backwards.
    /// </summary>
    /// <returns>Null: it did not complete, or was none after iterations whose memory all went while it was frozen.</returns>
    public static TimeSpan? Of(PhaulMigrationResult result, IReadOnlyList<PhaulIteration> iterations)
    {
        if (result is not { State: MigrationState.Completed, Mode: MigrationMode.PreCopy, Downtime: { } downtime })
            return null;
        var preDumps = iterations.Where(iteration => iteration.Kind == IterationKind.PreDump).ToArray();
        if (preDumps.Length == 0 || iterations.LastOrDefault(iteration => iteration.Kind == IterationKind.FinalDump) is not { } final)
            return null;
        var throughput = preDumps.Max(iteration => iteration.BytesPerSecond);
        var moving = throughput > 0 ? TimeSpan.FromSeconds(Math.Min(final.BytesSent / throughput, downtime.TotalSeconds)) : TimeSpan.Zero;
        var rest = downtime - moving - preDumps[^1].FrozenTime;
        return rest > TimeSpan.Zero ? rest : TimeSpan.Zero;
    }
}
