// Images of failed migrations: kept for a post-mortem, but neither for ever nor many of them.

using Phaul.Journal;

namespace Phaul;

/// <summary>Removes what is kept of failed migrations beyond a number and an age. They are memory of programs that run elsewhere.</summary>
internal static class FailedImages
{
    /// <summary>
    /// Removes the oldest. What is under way, not settled or not understood keeps its images and does not count. Never fails: what
    /// could not be removed is told.
    /// </summary>
    /// <param name="stateDirectory">Whose journals say how a migration ended.</param>
    /// <param name="parent">Where the work directories of migrations are.</param>
    /// <param name="side">Whose.</param>
    /// <param name="maxCount">At most so many stay.</param>
    /// <param name="maxAge">None that ended longer ago stays.</param>
    /// <param name="tell">Told what could not be done.</param>
    /// <param name="cancellationToken">Ends it between two directories.</param>
    public static async Task TrimAsync(
        StateDirectory stateDirectory, string parent, MigrationSide side, int maxCount, TimeSpan maxAge, Action<string> tell,
        CancellationToken cancellationToken)
    {
        var failed = new List<(WorkDirectory Images, DateTimeOffset End)>();
        try
        {
            var history = new MigrationHistory(stateDirectory);
            foreach (var id in WorkDirectory.MigrationsIn(parent, side))
            {
                var summaries = await history.ReadAsync(id, cancellationToken).ConfigureAwait(false);
                if (summaries.FirstOrDefault(summary => summary.Side == side) is { } summary && HasFailedForGood(summary))
                    failed.Add((WorkDirectory.For(parent, id, side), summary.LastRecordTime ?? default));
            }
        }
        catch (Exception exception) when (exception is PhaulException or IOException or UnauthorizedAccessException)
        {
            tell($"The images of failed migrations in {parent} could not be looked through: {exception.Message}");
        }

        var now = DateTimeOffset.UtcNow;
        foreach (var (images, _) in failed.OrderByDescending(one => one.End).Where((one, index) => index >= maxCount || now - one.End > maxAge))
        {
            cancellationToken.ThrowIfCancellationRequested();
            // Gigabytes may be freed here, which takes the kernel a while.
            if (await Task.Run(images.TryRemove, cancellationToken).ConfigureAwait(false) is { } obstacle)
                tell($"The images in {images.Path} could not be removed: {obstacle}");
        }
    }

    private static bool HasFailedForGood(MigrationSummary summary) => summary is
    {
        State: MigrationState.Discarded or MigrationState.RolledBack,
        NeedsResolution: false, IsRunning: false, Corruption: null, NewerVersion: null,
    };
}
