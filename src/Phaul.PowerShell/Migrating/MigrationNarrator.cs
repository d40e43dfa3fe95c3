// Tells PowerShell's streams what the engine says.

using System.Management.Automation;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Migrating;

/// <summary>Iterations become objects, progress Write-Progress, the story -Verbose, CRIU's log -Debug.</summary>
internal sealed class MigrationNarrator(int activityId, string activity, IRecordStreams streams) : IProgress<MigrationEvent>
{
    private volatile MigrationState _state;

    /// <summary>
    /// Whether the program may be half there: nothing is called off any more, and memory that follows comes from this process.
    /// </summary>
    public bool IsCommitting => _state == MigrationState.Committing;

    /// <inheritdoc/>
    public void Report(MigrationEvent value)
    {
        switch (value)
        {
            case IterationCompletedEvent iteration:
                streams.WriteObject(iteration.Iteration);
                break;
            case ProgressEvent progress:
                streams.WriteProgress(ProgressOf(progress));
                break;
            case StateChangedEvent state:
                _state = state.Change.State;
                streams.WriteProgress(new ProgressRecord(activityId, activity, _state.ToString()));
                string why = state.Change.Reason is { } reason ? $", {reason}" : "";
                streams.WriteVerbose($"{value.Time:HH:mm:ss.fff} {activity}: {_state}{why}");
                break;
            case WarningEvent warning:
                streams.WriteWarning(warning.Message);
                break;
            case StoryEvent story:
                streams.WriteVerbose($"{value.Time:HH:mm:ss.fff} {story.Message}");
                break;
            case CriuLogEvent log:
                streams.WriteDebug($"criu on {log.Host}: {log.Line}");
                break;
        }
    }

    /// <summary>Takes the progress display away.</summary>
    public void End() =>
        streams.WriteProgress(new ProgressRecord(activityId, activity, _state.ToString()) { RecordType = ProgressRecordType.Completed });

    private ProgressRecord ProgressOf(ProgressEvent progress)
    {
        string what = progress.MemoryFollows ? "It runs there, and its memory follows"
            : progress.Iteration > 0 ? $"{progress.State}, iteration {progress.Iteration}" : progress.State.ToString();
        string moved = $"{Units.Bytes(progress.BytesMoved)}, {Units.Rate(progress.BytesPerSecond)}";
        return new ProgressRecord(activityId, activity, $"{what}: {moved}")
        {
            PercentComplete = progress.Percent ?? -1,
            SecondsRemaining = progress.Remaining is { } rest ? (int)Math.Ceiling(rest.TotalSeconds) : -1,
        };
    }
}
