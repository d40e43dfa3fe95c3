// `phaul history [ID]`: the migrations of this host, running and ended.

using System.CommandLine;
using Phaul.Cli.Arguments;
using Phaul.Cli.Output;
using Phaul.Journal;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class HistoryCommand
{
    /// <summary>`phaul history`.</summary>
    public static Command Create(Streams streams)
    {
        var id = new Argument<string?>("ID") { Description = "Only this migration: its id, or the beginning of it", Arity = ArgumentArity.ZeroOrOne };
        var unresolved = new Option<bool>("--unresolved") { Description = "Only those that `phaul resolve` has to settle" };
        var newest = Quantities.Number("--newest", "Only so many, the newest", 20, 1, int.MaxValue);
        var host = new HostArguments();
        var json = CommandRun.Json();
        var command = new Command("history", "Lists the migrations that this host took part in, newest first, one line for each of its sides.")
        {
            id, unresolved, newest, host.StateDirectory, json,
        };

        command.SetAction((arguments, token) => CommandRun.WithDisplayAsync(
            streams, arguments.GetValue(json), new TextDisplay(streams, verbose: false), async pump =>
            {
                var directory = new StateDirectory(arguments.GetValue(host.StateDirectory));
                var history = new MigrationHistory(directory);
                var summaries = arguments.GetValue(id) is { } one
                    ? directory.Find(one) is { } found ? await history.ReadAsync(found, token) : []
                    : await history.ReadAsync(token);
                var shown = summaries.Where(summary => summary.NeedsResolution || !arguments.GetValue(unresolved)).Take(arguments.GetValue(newest)).ToArray();
                foreach (var (summary, index) in shown.Select((summary, index) => (summary, index)))
                    await pump.ReportAsync(JsonLines.From(summary), (index == 0 ? HistoryText.Head + "\n" : "") + HistoryText.Row(summary));
                return ExitCode.Done;
            }));
        return command;
    }
}
