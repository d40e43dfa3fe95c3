// `phaul serve`: this host as a destination, until a signal ends it.

using System.CommandLine;
using System.Net;
using System.Runtime.InteropServices;
using Phaul.Cli.Arguments;
using Phaul.Cli.Hosting;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class ServeCommand
{
    private const int SignalExitCodeBase = 128;

    /// <summary>`phaul serve`.</summary>
    public static Command Create(Streams streams)
    {
        var defaults = new DestinationServerOptions();
        var listen = new Option<IPAddress>("--listen")
        {
            Description = "The address to listen on; :: is all of them",
            HelpName = "ADDRESS",
            DefaultValueFactory = _ => defaults.Address,
            CustomParser = result =>
            {
                if (IPAddress.TryParse(result.Tokens[^1].Value, out var address))
                    return address;
                result.AddError($"'{result.Tokens[^1].Value}' is not an IP address.");
                return null;
            },
        };
        var port = Quantities.Number("--port", "The TCP port; 0 lets the system choose", defaults.Port, 0, 65535);
        var unix = new Option<string?>("--unix") { Description = "Listen on a UNIX socket (mode 0600) instead of TCP", HelpName = "PATH" };
        var maxMigrations = Quantities.Number("--max-migrations", "At most so many migrations at once", defaults.MaxMigrations, 1, 1000);
        var minFree = Quantities.Size("--min-free", "Refuse migrations that would leave less free on the work directory's disk [default: 64M]");
        var maxFailed = Quantities.Number("--max-failed-images", "Keep the images of at most so many failed migrations", defaults.MaxFailedImages, 0, 1000);
        var peerTimeout = Quantities.Span("--peer-timeout", "A source that is silent for so long is taken for lost [default: 15s]");
        var resolve = new Option<bool>("--resolve")
        {
            Description = "Settle at the start what an earlier crash left on this host, as far as that takes no person (see `phaul resolve`)",
        };
        var peers = new PeerArguments();
        var host = new HostArguments();
        var json = CommandRun.Json();
        var verbose = CommandRun.Verbose();
        var criuLog = CommandRun.CriuLog();

        var command = new Command(
            "serve", "Accepts migrations to this host until SIGINT or SIGTERM: then what is not prepared is rolled back, what is is finished; " +
            "a second signal ends at once.")
        {
            listen, port, unix,
        };
        peers.AddTo(command);
        host.AddTo(command);
        foreach (var option in (Option[])[maxMigrations, minFree, maxFailed, peerTimeout, resolve, json, verbose, criuLog])
            command.Add(option);

        command.SetAction(async (arguments, _) =>
        {
            var display = new TextDisplay(streams, arguments.GetValue(verbose), Prefix);
            return await CommandRun.WithDisplayAsync(streams, arguments.GetValue(json), display, async pump =>
            {
                using var identity = peers.Read(arguments, overTcp: arguments.GetValue(unix) is null);
                return await ServeAsync(pump, new DestinationServerOptions
                {
                    Address = arguments.GetValue(listen)!,
                    Port = arguments.GetValue(port),
                    UnixSocketPath = arguments.GetValue(unix),
                    Certificate = identity.Certificate,
                    TrustedFingerprints = identity.TrustedFingerprints,
                    InsecureLoopback = identity.InsecureLoopback,
                    CriuPath = arguments.GetValue(host.Criu)!,
                    WorkDirectory = arguments.GetValue(host.WorkDirectory),
                    StateDirectory = arguments.GetValue(host.StateDirectory),
                    MaxMigrations = arguments.GetValue(maxMigrations),
                    MinFreeBytes = arguments.GetValue(minFree) ?? defaults.MinFreeBytes,
                    ResolveAtStart = arguments.GetValue(resolve),
                    MaxFailedImages = arguments.GetValue(maxFailed),
                    PeerTimeout = arguments.GetValue(peerTimeout) ?? defaults.PeerTimeout,
                    FollowCriuLog = arguments.GetValue(criuLog),
                });
            });
        });
        return command;
    }

    private static async Task<ExitCode> ServeAsync(EventPump pump, DestinationServerOptions options)
    {
        // The second signal ends the process as the signal itself would have; CRIU undoes what it holds when we are gone
        using var signals = new TerminationSignals(signal => Environment.Exit(SignalExitCodeBase + NumberOf(signal)));
        await using var server = new DestinationServer(options, pump);
        server.Notice += text => pump.Report(new NoticeLine(DateTimeOffset.UtcNow, text), text);
        server.Resolved += resolution => pump.Report(JsonLines.From(resolution), HistoryText.Of(resolution));
        await server.StartAsync(signals.Token);

        var endpoint = options.UnixSocketPath ?? server.LocalEndPoint?.ToString() ?? "";
        await pump.ReportAsync(
            new ListeningLine(DateTimeOffset.UtcNow, endpoint, server.Fingerprint, Environment.ProcessId, server.UnresolvedMigrations),
            $"listening on {endpoint}" + (server.Fingerprint is null ? ", without TLS" : $", fingerprint {server.Fingerprint}"));
        foreach (var unresolved in server.UnresolvedMigrations)
            await pump.ReportAsync(new WarningLine(DateTimeOffset.UtcNow, unresolved, "left unresolved by a crash"), $"unresolved: {unresolved}" +
                (options.ResolveAtStart ? "" : $" (phaul resolve {unresolved})"));
        ServiceNotification.Send(ServiceNotification.Ready);

        var signalled = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var registration = signals.Token.Register(() => signalled.TrySetResult());
        await Task.WhenAny(signalled.Task, server.Completion);
        ServiceNotification.Send(ServiceNotification.Stopping);
        if (signals.Received)
        {
            await pump.ReportAsync(
                new StoppingLine(DateTimeOffset.UtcNow, server.ActiveMigrations.Count), Stopping(server.ActiveMigrations));
            await server.StopAsync(CancellationToken.None);
        }

        await server.Completion;
        await pump.ReportAsync(new StoppedLine(DateTimeOffset.UtcNow), "stopped");
        return ExitCode.Done;
    }

    private static string Stopping(IReadOnlyList<ActiveMigration> active)
    {
        var running = active.Where(migration => migration.State == MigrationState.Running).Select(migration => migration.MigrationId).ToArray();
        return $"stopping, {active.Count} under way" + (running.Length == 0
            ? ""
            : $"; run here already: {string.Join(", ", running)}. A second signal has those stand still that lack memory, and loses them if it was to come from the source");
    }

    private static string Prefix(MigrationEvent e) => $"{e.Time.ToLocalTime():HH:mm:ss.fff} {e.MigrationId} ";

    private static int NumberOf(PosixSignal signal) => signal switch
    {
        PosixSignal.SIGHUP => 1,
        PosixSignal.SIGINT => 2,
        _ => 15,
    };
}
