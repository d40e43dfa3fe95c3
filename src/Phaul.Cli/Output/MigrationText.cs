// A migration in words and columns: progress, iterations, the summary. Text in, text out; nothing is written here.

using System.Globalization;
using Phaul.Cli.Arguments;

namespace Phaul.Cli.Output;

/// <summary>Formats what the engine tells.</summary>
internal static class MigrationText
{
    /// <summary>The head of the iterations' table; the columns are those of <see cref="Row"/>.</summary>
    public const string RowHead = "   #  kind           time     pages       MiB   MiB/s  dirtied/s    frozen  then";

    /// <summary>Progress in one line, cut to <paramref name="width"/> columns.</summary>
    public static string Progress(ProgressEvent progress, int width)
    {
        var parts = new List<string> { progress.MemoryFollows ? "runs there, memory follows" : progress.State.ToString() };
        if (progress.Iteration > 0 && !progress.MemoryFollows)
            parts.Add($"iteration {progress.Iteration}");
        parts.Add(progress.BytesExpected is { } expected
            ? $"{ByteSize.InMebibytes(progress.BytesMoved)} of {ByteSize.InMebibytes(expected)} MiB"
            : $"{ByteSize.InMebibytes(progress.BytesMoved)} MiB");
        if (progress.Percent is { } percent)
            parts.Add($"{percent} %");
        parts.Add($"{ByteSize.InMebibytes(progress.BytesPerSecond)} MiB/s");
        if (progress.Remaining is { } remaining)
            parts.Add($"{Duration.Format(remaining)} left");
        return Cut(string.Join("  ", parts), width);
    }

    /// <summary>An iteration as a row.</summary>
    public static string Row(PhaulIteration iteration)
    {
        var dirtied = iteration.DirtyBytesPerSecond is { } bytes ? ByteSize.InMebibytes(bytes) : "-";
        return string.Create(CultureInfo.InvariantCulture,
            $"{iteration.Index,4}  {iteration.Kind,-9}  {Duration.Format(iteration.Duration),8}  {iteration.PagesWritten,8}  ") +
            $"{ByteSize.InMebibytes(iteration.BytesSent),8}  {ByteSize.InMebibytes(iteration.BytesPerSecond),6}  {dirtied,9}  " +
            $"{Duration.Format(iteration.FrozenTime),8}  {Then(iteration)}";
    }

    /// <summary>How it ended.</summary>
    public static string Summary(PhaulMigrationResult result)
    {
        var text = new StringWriter { NewLine = "\n" };
        var name = result.ProcessName is null ? "" : $" ({result.ProcessName})";
        text.WriteLine($"moved    pid {result.Pid}{name} from {result.SourceHost} to {result.DestinationHost}, pid {result.DestinationPid} there");
        if (result.Downtime is { } downtime)
            text.WriteLine($"down     {Duration.Format(downtime)}, from freeze to resumed");
        if (result.MemoryCompleteAfter is { } complete)
            text.WriteLine($"memory   all there {Duration.Format(complete)} later");
        var iterations = result.IterationCount == 1 ? "1 iteration" : $"{result.IterationCount} iterations";
        text.WriteLine($"total    {Duration.Format(result.Duration)}, {result.Mode}, {iterations}");
        text.WriteLine(
            $"sent     {ByteSize.InMebibytes(result.BytesSent)} MiB ({ByteSize.InMebibytes(result.PageBytes)} MiB pages, " +
            $"{ByteSize.InMebibytes(result.ImageBytes)} MiB other images)");
        if (result.ImagesDirectory is { } images)
            text.WriteLine($"images   kept in {images}");
        text.WriteLine($"id       {result.MigrationId}");
        return text.ToString();
    }

    /// <summary>A state and its reason.</summary>
    public static string State(MigrationStateChange change) => change.Reason is null ? $"{change.State}" : $"{change.State}: {change.Reason}";

    /// <summary>Text in so many columns, its end left out if need be.</summary>
    public static string Cut(string text, int width) => text.Length <= width ? text : width < 1 ? "" : string.Concat(text.AsSpan(0, width - 1), "…");

    private static string Then(PhaulIteration iteration) => iteration.Decision switch
    {
        IterationDecision.Continue => $"again: {iteration.Reason}",
        IterationDecision.HandOver => $"hand over: {iteration.Reason}",
        _ => iteration.Reason,
    };
}
