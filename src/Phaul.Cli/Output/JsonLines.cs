// --json: from what the engine tells to the shapes of JsonShapes.cs, one object a line.

using System.Text.Encodings.Web;
using System.Text.Json;
using Phaul.Journal;

namespace Phaul.Cli.Output;

/// <summary>Makes and writes lines.</summary>
internal static class JsonLines
{
    // Nothing here ends up in a web page: quotes and letters can stay as they are
    private static readonly JsonShapes Shapes = new(
        new JsonSerializerOptions(JsonShapes.Default.Options) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });

    /// <summary>One line, without its end.</summary>
    public static string Write(JsonLine line) => JsonSerializer.Serialize(line, line.GetType(), Shapes);

    /// <summary>The line for an event of the engine.</summary>
    public static JsonLine From(MigrationEvent migrationEvent) => migrationEvent switch
    {
        StateChangedEvent e => new StateLine(e.Change.Time, e.MigrationId, e.Change.Side, e.Change.State, e.Change.Reason),
        ProgressEvent e => new ProgressLine(
            e.Time, e.MigrationId, e.State, e.Iteration, e.BytesMoved, e.BytesExpected, Rounded(e.BytesPerSecond), e.Percent, Milliseconds(e.Remaining), e.MemoryFollows),
        IterationCompletedEvent e => From(e.Time, e.Iteration),
        WarningEvent e => new WarningLine(e.Time, e.MigrationId, e.Message),
        StoryEvent e => new StoryLine(e.Time, e.MigrationId, e.Message),
        CriuLogEvent e => new CriuLogLine(e.Time, e.MigrationId, e.Host, e.Line),
        _ => throw new NotSupportedException($"no line for {migrationEvent.GetType().Name}"),
    };

    /// <summary>The line for a finished migration.</summary>
    public static ResultLine From(PhaulMigrationResult result) => new(
        DateTimeOffset.UtcNow, result.MigrationId, result.Side, result.Mode, result.State, result.ProgramState, result.SourceHost,
        result.DestinationHost, result.Pid, result.ProcessName, result.DestinationPid, result.StartTime, Milliseconds(result.Duration),
        Milliseconds(result.Downtime), Milliseconds(result.MemoryCompleteAfter), result.BytesSent, result.PageBytes, result.ImageBytes,
        result.PagesWritten, result.IterationCount,
        [.. result.States.Select(state => new StateEntry(state.Side, state.State, state.Time, state.Reason))],
        result.ImagesDirectory, result.Warnings, result.Error);

    /// <summary>The line for an error.</summary>
    public static ErrorLine From(PhaulException error, ExitCode exitCode) => new(
        DateTimeOffset.UtcNow, error.Result?.MigrationId, error.ErrorId, error.Message, error.Host, error.Step, error.ProgramState,
        error.CriuLog, error.RecommendedAction, (int)exitCode);

    /// <summary>The line for one check.</summary>
    public static CheckLine From(CheckResult check) =>
        new(DateTimeOffset.UtcNow, check.Name, check.Side, check.Host, check.Verdict, check.Message, check.Remedy);

    /// <summary>The line for one side of a migration in the history.</summary>
    public static MigrationLine From(MigrationSummary summary) => new(
        DateTimeOffset.UtcNow, summary.MigrationId, summary.Side, summary.State, summary.ProgramState, summary.Mode, summary.Pid, summary.ProcessName,
        summary.SourceHost, summary.DestinationHost, summary.StartTime, Milliseconds(summary.Duration), Milliseconds(summary.Downtime),
        summary.IterationCount, summary.BytesSent, summary.IsRunning, summary.NeedsResolution, summary.Corruption, summary.ImagesDirectory,
        summary.Warnings, summary.Error, summary.JournalPath);

    /// <summary>The line for what a resolution found and did.</summary>
    public static ResolutionLine From(MigrationResolution resolution) => new(
        resolution.Time, resolution.MigrationId, resolution.Side, resolution.Outcome, resolution.State, resolution.ProgramState, resolution.Pid,
        resolution.ProcessName, resolution.SourceHost, resolution.DestinationHost, resolution.Found, resolution.Done, resolution.Remains);

    private static IterationLine From(DateTimeOffset time, PhaulIteration iteration) => new(
        time, iteration.MigrationId, iteration.Index, iteration.Kind, iteration.StartTime, Milliseconds(iteration.Duration),
        Milliseconds(iteration.FrozenTime), iteration.PagesScanned, iteration.PagesSkipped, iteration.PagesWritten, iteration.BytesSent,
        Rounded(iteration.BytesPerSecond), iteration.DirtyBytesPerSecond is { } dirtied ? Rounded(dirtied) : null,
        Milliseconds(iteration.PredictedDowntime), iteration.Decision, iteration.Reason);

    private static double Milliseconds(TimeSpan duration) => Math.Round(duration.TotalMilliseconds, 3);

    private static double? Milliseconds(TimeSpan? duration) => duration is { } known ? Milliseconds(known) : null;

    private static double Rounded(double bytesPerSecond) => Math.Round(bytesPerSecond);
}
