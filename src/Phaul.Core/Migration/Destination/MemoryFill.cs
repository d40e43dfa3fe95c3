// The program runs on the destination, and what is left of its memory follows.

using System.Diagnostics;
using Phaul.Journal;

namespace Phaul;

/// <summary>Sees to it that a tree that runs gets all its memory, or, if it cannot, that it is restored again from its images.</summary>
internal sealed class MemoryFill
{
    // Local disks and memory are the only limit; beyond this something stands still.
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(30);

    private readonly MigrationRecorder _recorder;
    private readonly string _workDirectory;
    private readonly Func<string, Task<HeldTree>> _restoreAgain;

    /// <param name="recorder">Of the migration.</param>
    /// <param name="workDirectory">Where its images are.</param>
    /// <param name="restoreAgain">Ends the tree and restores it with all its memory, held; told why. One thing at a time is its affair.</param>
    public MemoryFill(MigrationRecorder recorder, string workDirectory, Func<string, Task<HeldTree>> restoreAgain) =>
        (_recorder, _workDirectory, _restoreAgain) = (recorder, workDirectory, restoreAgain);

    /// <summary>How long the program ran before it had all its memory; null until then.</summary>
    public TimeSpan? CompleteAfter { get; private set; }

    /// <summary>Whether somebody may need the images yet.</summary>
    public bool KeepsImages { get; private set; }

    /// <summary>Waits until it has all. Never fails: it warns.</summary>
    public async Task RunAsync(HeldTree held)
    {
        var since = Stopwatch.StartNew();
        try
        {
            await held.WaitForMemoryAsync(CancellationToken.None).WaitAsync(Limit).ConfigureAwait(false);
            CompleteAfter = since.Elapsed;
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            KeepsImages = true;
            await _recorder.WarnAsync(
                $"After {Limit.TotalMinutes:0} minutes the program still has not got all its memory. The images in {_workDirectory} are " +
                "kept: criu lazy-pages reads them, and must not be ended.").ConfigureAwait(false);
        }
        catch (PhaulException exception)
        {
            await _recorder.WarnAsync($"{exception.Message}, before the program had all its memory.").ConfigureAwait(false);
            await ReplaceAsync(held, since).ConfigureAwait(false);
        }
    }

    private async Task ReplaceAsync(HeldTree held, Stopwatch since)
    {
        // What ran and has ended is never started a second time.
        if (held.HasEndedByItself)
        {
            KeepsImages = true;
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            await _recorder.WarnAsync($"The program has ended. Its images are kept in {_workDirectory}.").ConfigureAwait(false);
            return;
        }

        try
        {
            await _recorder.WriteIfPossibleAsync(new MemoryLost()).ConfigureAwait(false);
            // Every further instruction may read zeros where there was something.
            var again = await _restoreAgain(
                $"What the program did on this host in its first {since.Elapsed.TotalMilliseconds:0} ms is lost: it was killed and goes on " +
                "from the moment of the hand-over").ConfigureAwait(false);
            await again.ResumeAsync().ConfigureAwait(false);
            await _recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            KeepsImages = true;
            await _recorder.WarnAsync(
                $"The program runs nowhere: it could not be restored again ({exception.Message}). Its images are in {_workDirectory}; " +
                "criu restore makes it run from them.").ConfigureAwait(false);
        }
    }
}
