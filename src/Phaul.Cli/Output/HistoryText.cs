// The history as a table, and resolutions as paragraphs.

using System.Globalization;
using Phaul.Cli.Arguments;
using Phaul.Journal;

namespace Phaul.Cli.Output;

/// <summary>Formats what journals tell.</summary>
internal static class HistoryText
{
    /// <summary>The head of the table; the columns are those of <see cref="Row"/>.</summary>
    public const string Head = "MIGRATION                  SIDE         STATE         PID      PROCESS          FROM -> TO                TIME      DOWN";

    /// <summary>One side of one migration.</summary>
    public static string Row(MigrationSummary summary)
    {
        var state = summary.IsRunning ? $"{summary.State} *" : summary.NeedsResolution ? $"{summary.State} !" : $"{summary.State}";
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{summary.MigrationId,-25}  {summary.Side,-11}  {state,-12}  {summary.Pid,-7}  {MigrationText.Cut(summary.ProcessName ?? "", 15),-15}  " +
            $"{MigrationText.Cut($"{summary.SourceHost} -> {summary.DestinationHost}", 24),-24}  " +
            $"{(summary.Duration is { } time ? Duration.Format(time) : "-"),8}  {(summary.Downtime is { } down ? Duration.Format(down) : "-"),7}")
            + (summary.Corruption is { } corruption ? $"\n    corrupt: {corruption}" : "")
            + (summary is { NeedsResolution: true, IsRunning: false, Corruption: null } ? "\n    needs `phaul resolve`" : "");
    }

    /// <summary>What was found and done, and what remains.</summary>
    public static string Of(MigrationResolution resolution)
    {
        var text = new StringWriter { NewLine = "\n" };
        text.WriteLine($"{resolution.MigrationId}  {resolution.Side}  {resolution.Outcome}");
        text.WriteLine($"  program  {(resolution.ProcessName is { } name ? $"{name} ({resolution.Pid}) " : "")}{ErrorReport.Describe(resolution.ProgramState)}");
        text.WriteLine($"  found    {resolution.Found}");
        if (resolution.Done is { } done)
            text.WriteLine($"  done     {done}");
        if (resolution.Remains is { } remains)
            text.WriteLine($"  next     {remains}");
        return text.ToString().TrimEnd();
    }
}
