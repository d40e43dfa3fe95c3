// Where a command writes, and whether somebody watches.

namespace Phaul.Cli.Output;

/// <summary>The standard streams of a command.</summary>
/// <param name="Output">Results and progress.</param>
/// <param name="Error">Errors.</param>
/// <param name="TerminalWidth">The width of the terminal behind <paramref name="Output"/> in columns, asked anew for each line; null if there is none.</param>
internal sealed record Streams(TextWriter Output, TextWriter Error, Func<int>? TerminalWidth)
{
    private const int UsualWidth = 80;

    /// <summary>Those of this process. Both are flushed with every write: whoever reads along waits for whole lines.</summary>
    public static Streams OfThisProcess()
    {
        var isTerminal = !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") is not (null or "" or "dumb");
        return new Streams(Console.Out, Console.Error, isTerminal ? Width : null);
    }

    // Some terminals (serial lines) say that they are 0 columns wide
    private static int Width() => Console.WindowWidth > 0 ? Console.WindowWidth : UsualWidth;
}
