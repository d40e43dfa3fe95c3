// Tells a foreground server's story.

using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Migrating;

/// <summary>Every migration that a server serves, as -Verbose, warnings and -Debug; it emits no objects.</summary>
internal sealed class ServerNarrator(IRecordStreams streams) : IProgress<MigrationEvent>
{
    /// <inheritdoc/>
    public void Report(MigrationEvent value)
    {
        string who = $"{value.Time:HH:mm:ss.fff} {value.MigrationId}";
        switch (value)
        {
            case StateChangedEvent state:
                streams.WriteVerbose($"{who}: {state.Change.State}{(state.Change.Reason is { } reason ? $", {reason}" : "")}");
                break;
            case StoryEvent story:
                streams.WriteVerbose($"{who}: {story.Message}");
                break;
            case WarningEvent warning:
                streams.WriteWarning($"{value.MigrationId}: {warning.Message}");
                break;
            case CriuLogEvent log:
                streams.WriteDebug($"{value.MigrationId}: criu on {log.Host}: {log.Line}");
                break;
        }
    }
}
