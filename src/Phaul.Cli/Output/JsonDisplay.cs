// Events for programs: one JSON object a line, everything included.

namespace Phaul.Cli.Output;

/// <summary>Shows events as JSON.</summary>
internal sealed class JsonDisplay(TextWriter output) : IEventDisplay
{
    /// <inheritdoc/>
    public void Show(MigrationEvent migrationEvent) => Show(JsonLines.From(migrationEvent), null);

    /// <inheritdoc/>
    public void Show(JsonLine line, string? text)
    {
        output.Write(JsonLines.Write(line) + "\n");
        output.Flush();
    }

    /// <inheritdoc/>
    public void End()
    {
    }
}
