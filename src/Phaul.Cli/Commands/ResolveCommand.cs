// `phaul resolve [ID]`: settles what crashes have left on this host.

using System.CommandLine;
using Phaul.Cli.Arguments;
using Phaul.Cli.Hosting;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class ResolveCommand
{
    /// <summary>`phaul resolve`.</summary>
    public static Command Create(Streams streams)
    {
        var defaults = new ResolveOptions();
        var id = new Argument<string?>("ID")
        {
            Description = "The migration: its id, or the beginning of it (`phaul history --unresolved`)",
            Arity = ArgumentArity.ZeroOrOne,
        };
        var all = new Option<bool>("--all") { Description = "All migrations of this host that need it" };
        var gone = new Option<bool>("--source-is-gone")
        {
            Description = "On the destination: the source host is gone for good; run the held copy. DANGEROUS: if the program does run there, it runs twice",
        };
        var running = new Option<bool>("--source-is-running")
        {
            Description = "On the destination: the program runs on the source; discard the held copy. DANGEROUS: if it does not, it is lost but for its images",
        };
        var yes = new Option<bool>("--yes") { Description = "Do not ask before acting on --source-is-gone or --source-is-running" };
        var host = new Option<string?>("--host") { Description = "Where the destination is now [default: where it was]", HelpName = "HOST" };
        var port = Quantities.Number("--port", "Its TCP port, with --host", MigrationEndpoint.DefaultPort, 1, 65535);
        var limit = Quantities.Span("--limit", "How long a destination that cannot be reached is sought [default: 30s]");
        var peers = new PeerArguments();
        var hostArguments = new HostArguments();
        var json = CommandRun.Json();

        var command = new Command(
            "resolve", "Settles migrations that a crash left open, on either host: looks whether the source's program is alive, and acts on it. " +
            "May be repeated. Exits with 5 if something remains to be done.")
        {
            id, all, gone, running, yes, host, port, limit,
        };
        peers.AddTo(command);
        command.Add(hostArguments.Criu);
        command.Add(hostArguments.StateDirectory);
        command.Add(json);
        command.Validators.Add(result =>
        {
            if (result.GetValue(id) is null == !result.GetValue(all))
                result.AddError("Name one migration, or give --all.");
            if (result.GetValue(gone) && result.GetValue(running))
                result.AddError("--source-is-gone and --source-is-running exclude each other.");
            if (result.GetValue(all) && (result.GetValue(gone) || result.GetValue(running)))
                result.AddError("--source-is-gone and --source-is-running are for one migration that is named.");
        });

        command.SetAction(async (arguments, _) =>
        {
            var display = new TextDisplay(streams, verbose: false);
            return await CommandRun.WithDisplayAsync(streams, arguments.GetValue(json), display, async pump =>
            {
                var word = arguments.GetValue(gone) ? OperatorWord.SourceIsGone
                    : arguments.GetValue(running) ? OperatorWord.SourceIsRunning : OperatorWord.None;
                if (word != OperatorWord.None && !arguments.GetValue(yes))
                    Confirm(streams, word);
                using var signals = new TerminationSignals();
                using var known = peers.ReadIfGiven(arguments);
                var resolver = new MigrationResolver(
                    new ResolveOptions
                    {
                        StateDirectory = arguments.GetValue(hostArguments.StateDirectory),
                        CriuPath = arguments.GetValue(hostArguments.Criu)!,
                        Certificate = known.Certificate,
                        TrustedFingerprints = known.TrustedFingerprints,
                        Destination = arguments.GetValue(host) is { } other
                            ? new MigrationEndpoint { Host = other, Port = arguments.GetValue(port), InsecureLoopback = known.InsecureLoopback }
                            : null,
                        Limit = arguments.GetValue(limit) ?? defaults.Limit,
                        Word = word,
                        By = $"phaul resolve, {Environment.UserName}",
                    });
                return arguments.GetValue(id) is { } one
                    ? await ReportAsync(pump, await resolver.ResolveAsync(one, signals.Token))
                    : await ReportAllAsync(pump, resolver.ResolveAllAsync(signals.Token));
            });
        });
        return command;
    }

    private static async Task<ExitCode> ReportAllAsync(EventPump pump, IAsyncEnumerable<MigrationResolution> resolutions)
    {
        var code = ExitCode.Done;
        await foreach (var resolution in resolutions)
            code = await ReportAsync(pump, [resolution]) == ExitCode.Done ? code : ExitCode.InDoubt;
        return code;
    }

    private static async Task<ExitCode> ReportAsync(EventPump pump, IReadOnlyList<MigrationResolution> resolutions)
    {
        foreach (var resolution in resolutions)
            await pump.ReportAsync(JsonLines.From(resolution), HistoryText.Of(resolution));
        return resolutions.Any(resolution => resolution.Outcome is ResolutionOutcome.Unresolved or ResolutionOutcome.InProgress)
            ? ExitCode.InDoubt
            : ExitCode.Done;
    }

    private static void Confirm(Streams streams, OperatorWord word)
    {
        streams.Error.Write(
            word == OperatorWord.SourceIsGone
                ? "The held copy will run. If the program still runs on the source, it then runs twice. Is the source gone for good? Type yes: "
                : "The held copy will be discarded. If the program does not run on the source, it is lost but for its images. Does it run there? Type yes: ");
        streams.Error.Flush();
        if (Console.In.ReadLine()?.Trim() != "yes")
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, "not confirmed; nothing was done")
            {
                ProgramState = ProgramState.Unknown,
                RecommendedAction = "Type yes when asked, or give --yes.",
            };
        }
    }
}
