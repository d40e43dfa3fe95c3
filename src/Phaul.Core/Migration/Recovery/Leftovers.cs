// What a process that ended just after the hand-over did not come to do any more.

using Phaul.Journal;

namespace Phaul;

/// <summary>Images of a program that runs on the destination: large, nobody's business, and of no use.</summary>
internal static class Leftovers
{
    /// <summary>Removes them and writes the result that is missing.</summary>
    /// <exception cref="PhaulException">The journal cannot be written.</exception>
    public static async Task<MigrationResolution> RemoveAsync(
        StateDirectory stateDirectory, MigrationSummary summary, IProgress<MigrationEvent>? observer, CancellationToken cancellationToken)
    {
        await using var journal = await MigrationJournal.OpenForRecoveryAsync(
            stateDirectory, summary.MigrationId, summary.Side, cancellationToken).ConfigureAwait(false);
        var contents = await JournalReader.ReadAsync(journal.Path, cancellationToken).ConfigureAwait(false);
        await using var recorder = new MigrationRecorder(summary.Side, summary.MigrationId, journal, observer);
        recorder.Continue(contents);
        var begun = contents.Records.OfType<Begun>().First();
        var images = contents.Records.OfType<ImagesPlace>().LastOrDefault()?.Directory;
        var obstacle = images is null || begun.KeepImages ? null : WorkDirectory.TryRemove(images);
        if (obstacle is not null)
            await recorder.WarnAsync($"The images in {images} could not be removed: {obstacle}").ConfigureAwait(false);
        var result = ResolvedResult.Of(begun, contents, recorder) with
        {
            State = recorder.State,
            ProgramState = ProgramState.RunningOnDestination,
            DestinationPid = contents.Records.OfType<Prepared>().LastOrDefault()?.RootPid,
            ImagesDirectory = images is not null && Directory.Exists(images) ? images : null,
        };
        await recorder.WriteAsync(new Finished(result), durable: true).ConfigureAwait(false);
        return Resolutions.Of(summary, ResolutionOutcome.Settled, "the program had been handed over, and its images were left") with
        {
            Done = obstacle is null ? begun.KeepImages ? "the result was recorded" : "they were removed" : $"they could not be removed: {obstacle}",
        };
    }
}
