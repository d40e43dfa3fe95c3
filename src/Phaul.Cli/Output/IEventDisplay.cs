// Who shows what the engine tells: a terminal, a log, a program that reads JSON.

namespace Phaul.Cli.Output;

/// <summary>Shows events, one after the other, never two at once.</summary>
internal interface IEventDisplay
{
    /// <summary>Shows one event.</summary>
    void Show(MigrationEvent migrationEvent);

    /// <summary>Shows a line in its own right, or nothing where it has no place (text for people in JSON, say).</summary>
    void Show(JsonLine line, string? text);

    /// <summary>Nothing more comes: whatever is still open on the terminal is closed.</summary>
    void End();
}
