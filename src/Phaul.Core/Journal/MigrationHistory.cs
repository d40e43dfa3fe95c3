// What the journals of a state directory say together: the history, the iterations, and what may be forgotten.

using System.Runtime.CompilerServices;

namespace Phaul.Journal;

/// <summary>The migrations of a state directory, running and ended, from whichever process.</summary>
public sealed class MigrationHistory
{
    private static readonly TimeSpan NeverBegan = TimeSpan.FromHours(1);
    private static readonly TimeSpan KeptFor = TimeSpan.FromDays(90);

    private readonly StateDirectory _directory;

    /// <summary>Looks at a state directory; nothing is read or created yet.</summary>
    public MigrationHistory(StateDirectory directory) => _directory = directory ?? throw new ArgumentNullException(nameof(directory));

    /// <summary>One summary a journal, newest migration first, the source before the destination.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: the state directory cannot be read.</exception>
    public async Task<IReadOnlyList<MigrationSummary>> ReadAsync(CancellationToken cancellationToken = default)
    {
        var summaries = new List<MigrationSummary>();
        foreach (var id in _directory.Migrations())
            summaries.AddRange(await ReadAsync(id, cancellationToken).ConfigureAwait(false));
        return summaries;
    }

    /// <summary>The summaries of one migration: none, one, or both sides.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: not a migration id.</exception>
    public async Task<IReadOnlyList<MigrationSummary>> ReadAsync(string id, CancellationToken cancellationToken = default)
    {
        var summaries = new List<MigrationSummary>();
        foreach (var side in _directory.Sides(id))
        {
            if (await SummaryAsync(id, side, cancellationToken).ConfigureAwait(false) is { } summary)
                summaries.Add(summary);
        }

        return summaries;
    }

    /// <summary>The iterations of a migration that are finished so far. Both sides record the same.</summary>
    /// <param name="id">The migration.</param>
    /// <param name="side">Whose journal to read; null for the source's, or where there is none the destination's.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: there is no such journal, or it is corrupt.</exception>
    public async Task<IReadOnlyList<PhaulIteration>> IterationsAsync(
        string id, MigrationSide? side = null, CancellationToken cancellationToken = default)
    {
        var path = PathOf(id, side);
        var contents = await JournalReader.ReadAsync(path, cancellationToken).ConfigureAwait(false);
        return contents.Corruption is { } corruption
            ? throw corruption.AsException(path)
            : contents.Records.OfType<IterationFinished>().Select(record => record.Iteration).ToArray();
    }

    /// <summary>The iterations of a migration, those to come as they are finished, until it ends.</summary>
    /// <inheritdoc cref="IterationsAsync"/>
    public async IAsyncEnumerable<PhaulIteration> FollowIterationsAsync(
        string id, MigrationSide? side = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        await foreach (var record in JournalReader.FollowAsync(PathOf(id, side), cancellationToken).ConfigureAwait(false))
        {
            if (record is IterationFinished finished)
                yield return finished.Iteration;
        }
    }

    /// <summary>
    /// Removes the directories of migrations that ended longer ago than this. One that is running, needs resolution, is corrupt or
    /// was written by a newer version stays, whatever its age.
    /// </summary>
    /// <param name="olderThan">The age, counted from the last record; zero or more.</param>
    /// <param name="cancellationToken">Ends the work between two migrations.</param>
    /// <returns>The ids that were removed.</returns>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: a directory could not be read or removed.</exception>
    public Task<IReadOnlyList<string>> PruneAsync(TimeSpan olderThan, CancellationToken cancellationToken = default) =>
        PruneAsync(olderThan, _ => true, cancellationToken);

    /// <summary>
    /// Removes what ended longer ago than <see cref="KeptFor"/>, without reading what was written since. Never fails: what could not be
    /// done is told.
    /// </summary>
    internal async Task ForgetOldAsync(Action<string> tell, CancellationToken cancellationToken)
    {
        try
        {
            await PruneAsync(
                KeptFor, path => Directory.EnumerateFiles(path).All(file => DateTime.UtcNow - File.GetLastWriteTimeUtc(file) > KeptFor), cancellationToken)
                .ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or IOException or UnauthorizedAccessException)
        {
            tell($"Records of old migrations in {_directory.Path} could not be removed: {exception.Message}");
        }
    }

    private async Task<IReadOnlyList<string>> PruneAsync(TimeSpan olderThan, Func<string, bool> look, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(olderThan, TimeSpan.Zero);
        var removed = new List<string>();
        foreach (var id in _directory.Migrations())
        {
            cancellationToken.ThrowIfCancellationRequested();
            var path = _directory.MigrationPath(id);
            if (!look(path))
                continue;
            var summaries = await ReadAsync(id, cancellationToken).ConfigureAwait(false);
            var mayGo = summaries.Count == 0
                ? IsAbandoned(id, path, olderThan)
                : summaries.All(MayBeForgotten) && DateTimeOffset.UtcNow - summaries.Max(summary => summary.LastRecordTime) >= olderThan;
            if (!mayGo)
                continue;
            try
            {
                Directory.Delete(path, recursive: true);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw StateDirectory.Failed($"{path} cannot be removed", e);
            }

            removed.Add(id);
        }

        return removed;
    }

    // Without a single record it never began, or is just about to: that takes no hour.
    private bool IsAbandoned(string id, string path, TimeSpan olderThan)
        => DateTime.UtcNow - Directory.GetLastWriteTimeUtc(path) >= (olderThan > NeverBegan ? olderThan : NeverBegan)
            && !_directory.Sides(id).Any(side => JournalReader.IsWriterAlive(_directory.JournalPath(id, side)));

    private static bool MayBeForgotten(MigrationSummary summary)
        => !summary.IsRunning && !summary.NeedsResolution && summary.Corruption is null && summary.NewerVersion is null;

    private string PathOf(string id, MigrationSide? side)
    {
        var sides = _directory.Sides(id);
        if (sides.Count == 0 || (side is not null && !sides.Contains(side.Value)))
            throw new PhaulException(PhaulErrorId.JournalFailed, $"There is no journal of migration {id} in {_directory.Path}.");
        return _directory.JournalPath(id, side ?? sides[0]);
    }

    // Null for a journal whose writer died before its first record was whole: nothing had happened.
    private async Task<MigrationSummary?> SummaryAsync(string id, MigrationSide side, CancellationToken cancellationToken)
    {
        var path = _directory.JournalPath(id, side);
        try
        {
            // Asked before reading: a writer that is dead by now has nothing more to say than what is then read.
            var isRunning = JournalReader.IsWriterAlive(path);
            var contents = await JournalReader.ReadAsync(path, cancellationToken).ConfigureAwait(false);
            return contents.Records.Count == 0 && contents.Corruption is null && !isRunning
                ? null
                : MigrationSummary.Of(id, side, path, contents, isRunning, DateTimeOffset.UtcNow);
        }
        catch (PhaulException e)
        {
            // One that cannot be read does not hide the others.
            return new()
            {
                MigrationId = id,
                Side = side,
                ProgramState = ProgramState.Unknown,
                NeedsResolution = true,
                Corruption = e.Message,
                JournalPath = path,
            };
        }
    }
}
