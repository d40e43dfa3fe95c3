// The result of a migration that ended by resolution: from what its journal has kept.

using Phaul.Journal;

namespace Phaul;

/// <summary>Makes it.</summary>
internal static class ResolvedResult
{
    /// <summary>What is known apart from how it ended. An earlier result, written when it was left in doubt, knows more.</summary>
    public static PhaulMigrationResult Of(Begun begun, JournalContents contents, MigrationRecorder recorder)
    {
        var peer = contents.Records.OfType<PeerMet>().LastOrDefault()?.Name ?? begun.Peer ?? "";
        var isSource = begun.Side == MigrationSide.Source;
        var iterations = recorder.Iterations;
        var earlier = contents.Records.OfType<Finished>().LastOrDefault()?.Result ?? new PhaulMigrationResult
        {
            MigrationId = begun.Id,
            Side = begun.Side,
            Mode = begun.Mode,
            State = recorder.State,
            ProgramState = ProgramState.Unknown,
            SourceHost = isSource ? begun.Host : peer,
            DestinationHost = isSource ? peer : begun.Host,
            Pid = begun.Pid,
            ProcessName = begun.ProcessName,
            StartTime = begun.Time,
            Duration = TimeSpan.Zero,
            BytesSent = iterations.Sum(iteration => iteration.BytesSent),
            PagesWritten = iterations.Sum(iteration => iteration.PagesWritten),
            IterationCount = iterations.Count,
        };
        return earlier with
        {
            Duration = DateTimeOffset.UtcNow - begun.Time,
            States = recorder.States,
            Warnings = [.. contents.Records.OfType<Warning>().Select(warning => warning.Text), .. recorder.Warnings],
            Error = MigrationSummary.IsFinal(recorder.State) && recorder.State is MigrationState.Completed or MigrationState.Running
                ? null
                : earlier.Error ?? recorder.States.LastOrDefault()?.Reason,
        };
    }
}
