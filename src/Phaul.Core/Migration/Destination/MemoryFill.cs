// The program runs on the destination, and what is left of its memory follows.

using System.Diagnostics;
using Phaul.Journal;

namespace Phaul;

/// <summary>Sees to it that a tree that runs gets all its memory, or, if it cannot, that it is restored again from its images.</summary>
internal sealed class MemoryFill
{
    // Local disks and memory are the only limit; beyond this something is worth a word.
    private static readonly TimeSpan WordAfter = TimeSpan.FromMinutes(30);

    private readonly MigrationRecorder _recorder;
    private readonly string _workDirectory;
    private readonly Func<string, Task> _replace;
    private bool _isUnrecorded;

    /// <param name="recorder">Of the migration.</param>
    /// <param name="workDirectory">Where its images are.</param>
    /// <param name="replace">Ends the tree, restores it with all its memory and has it run; told why.</param>
    public MemoryFill(MigrationRecorder recorder, string workDirectory, Func<string, Task> replace) =>
        (_recorder, _workDirectory, _replace) = (recorder, workDirectory, replace);

    /// <summary>How long the program ran before it had all its memory; null until then.</summary>
    public TimeSpan? CompleteAfter { get; private set; }

    /// <summary>Whether somebody may need the images yet.</summary>
    public bool KeepsImages { get; private set; }

    /// <summary>Waits until it has all. Never fails: it warns.</summary>
    /// <param name="held">The tree, which runs.</param>
    /// <param name="lose">What to do if it will not get the rest, and the images have not got it either; null: they have.</param>
    public async Task RunAsync(HeldTree held, Func<HeldTree, Exception, Task>? lose = null)
    {
        var since = Stopwatch.StartNew();
        try
        {
            var complete = held.WaitForMemoryAsync(CancellationToken.None);
            while (await Task.WhenAny(complete, Task.Delay(WordAfter)).ConfigureAwait(false) != complete)
            {
                await _recorder.WarnAsync(
                    $"After {since.Elapsed.TotalMinutes:0} minutes the program still has not got all its memory; neither this process nor " +
                    "criu lazy-pages must be ended.").ConfigureAwait(false);
            }

            await complete.ConfigureAwait(false);
            CompleteAfter = since.Elapsed;
            await RecordAsync().ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            await _recorder.WarnAsync($"{exception.Message.TrimEnd('.')}, before the program had all its memory.").ConfigureAwait(false);
            await (lose is null ? ReplaceAsync(held, since) : LoseAsync(held, exception, lose)).ConfigureAwait(false);
        }
    }

    /// <summary>Tries once more, at the end, to record what could not be recorded when it came about.</summary>
    public Task RecordLeftAsync() => _isUnrecorded ? RecordAsync() : Task.CompletedTask;

    // Whoever finds no such record takes the program for one that lacks memory, and needs the images
    private async Task RecordAsync() =>
        KeepsImages = _isUnrecorded = !await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);

    private async Task LoseAsync(HeldTree held, Exception exception, Func<HeldTree, Exception, Task> lose)
    {
        KeepsImages = true;
        if (held.HasEndedByItself)
        {
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            await _recorder.WarnAsync("The program has ended by itself.").ConfigureAwait(false);
            return;
        }

        await lose(held, exception).ConfigureAwait(false);
    }

    private async Task ReplaceAsync(HeldTree held, Stopwatch since)
    {
        KeepsImages = true;
        // What ran and has ended is never started a second time.
        if (held.HasEndedByItself)
        {
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            await _recorder.WarnAsync($"The program has ended. Its images are kept in {_workDirectory}.").ConfigureAwait(false);
            return;
        }

        try
        {
            await _recorder.WriteAsync(new MemoryLost()).ConfigureAwait(false);
            await _replace(
                $"What the program did on this host in its first {since.Elapsed.TotalMilliseconds:0} ms is lost: it was killed and goes on " +
                "from the moment of the hand-over").ConfigureAwait(false);
            await RecordAsync().ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            await _recorder.WarnAsync(
                $"The program stands still or is gone, and could not be restored again: {exception.Message}. Its images are kept in " +
                $"{_workDirectory}. End this server and resolve the migration: Resolve-PhaulMigration / phaul resolve.").ConfigureAwait(false);
        }
    }
}
