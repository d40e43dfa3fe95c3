// What all commands that report do alike: one display, errors as a line and as a report, an exit code.

using System.CommandLine;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>Runs the body of a command.</summary>
internal static class CommandRun
{
    /// <summary>--json.</summary>
    public static Option<bool> Json() => new("--json") { Description = "One JSON object a line instead of text (docs/cli.md)" };

    /// <summary>--verbose.</summary>
    public static Option<bool> Verbose() => new("--verbose", "-v") { Description = "Tell the story" };

    /// <summary>--criu-log.</summary>
    public static Option<bool> CriuLog() => new("--criu-log") { Description = "Show every line of CRIU's logs on this host" };

    /// <summary>Runs <paramref name="body"/>, which reports through the pump that it is given.</summary>
    public static async Task<int> WithDisplayAsync(Streams streams, bool json, IEventDisplay textDisplay, Func<EventPump, Task<ExitCode>> body)
    {
        PhaulException error;
        ExitCode exitCode;
        await using (var pump = new EventPump(json ? new JsonDisplay(streams.Output) : textDisplay))
        {
            try
            {
                return (int)await body(pump);
            }
            catch (Exception e)
            {
                error = e as PhaulException ?? PhaulCommand.AsInternalError(e);
                exitCode = ExitCodes.For(error);
                if (error.Result is { } result)
                    await pump.ReportAsync(JsonLines.From(result), null);
                await pump.ReportAsync(JsonLines.From(error, exitCode), null);
            }
        }

        // After the display has closed its line on the terminal
        streams.Error.Write(ErrorReport.Of(error));
        if (error.ErrorId == PhaulErrorId.InternalError)
            streams.Error.WriteLine(error.InnerException?.ToString());
        return (int)exitCode;
    }
}
