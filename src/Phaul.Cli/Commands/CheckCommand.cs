// `phaul check`: the checks alone, of this host, or of a migration that is planned.

using System.CommandLine;
using Phaul.Cli.Arguments;
using Phaul.Cli.Hosting;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class CheckCommand
{
    /// <summary>`phaul check`.</summary>
    public static Command Create(Streams streams)
    {
        var pid = Quantities.Pid(
            "The root of the process tree that is to be moved; without it this host's criu and kernel are checked", required: false);
        var mode = ModeOption.Create();
        var destination = new DestinationArguments();
        var tree = new TreeArguments();
        var host = new HostArguments();
        var json = CommandRun.Json();

        var command = new Command("check", "Checks whether a migration would work. Touches nothing.") { pid };
        destination.AddTo(command, required: false);
        command.Add(mode);
        tree.AddTo(command);
        host.AddTo(command);
        command.Add(json);

        command.SetAction(async (arguments, _) =>
        {
            var display = new TextDisplay(streams, verbose: false);
            return await CommandRun.WithDisplayAsync(streams, arguments.GetValue(json), display, async pump =>
            {
                using var signals = new TerminationSignals();
                if (arguments.GetValue(pid) is not { } root)
                    return await ReportAsync(pump, await LocalChecks.RunAsync(arguments.GetValue(host.Criu)!, signals.Token));
                if (!destination.IsGiven(arguments))
                    throw new PhaulException(PhaulErrorId.InvalidRequest, "a destination is needed to check a migration: HOST or --unix");

                using var peers = destination.ReadPeers(arguments);
                var migration = new SourceMigration(new MigrationRequest
                {
                    Pid = root,
                    Destination = destination.Read(arguments, peers),
                    Mode = arguments.GetValue(mode),
                    Options = tree.Read(arguments),
                    CriuPath = arguments.GetValue(host.Criu)!,
                    WorkDirectory = arguments.GetValue(host.WorkDirectory),
                    StateDirectory = arguments.GetValue(host.StateDirectory),
                });
                return await ReportAsync(pump, await migration.CheckAsync(signals.Token));
            });
        });
        return command;
    }

    private static async Task<ExitCode> ReportAsync(EventPump pump, IReadOnlyList<CheckResult> checks)
    {
        foreach (var (check, row) in checks.Zip(CheckTable.Rows(checks)))
            await pump.ReportAsync(JsonLines.From(check), row);
        int Count(CheckVerdict verdict) => checks.Count(check => check.Verdict == verdict);
        var sums = new CheckedLine(
            DateTimeOffset.UtcNow, Count(CheckVerdict.Passed), Count(CheckVerdict.Warning), Count(CheckVerdict.Failed), Count(CheckVerdict.Skipped));
        await pump.ReportAsync(sums, $"{sums.Passed} passed, {sums.Warnings} warnings, {sums.Failed} failed, {sums.Skipped} skipped");
        return sums.Failed == 0 ? ExitCode.Done : ExitCode.Refused;
    }
}
