// `phaul migrate PID HOST`: moves a process tree from this host to another.

using System.CommandLine;
using Phaul.Cli.Arguments;
using Phaul.Cli.Hosting;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class MigrateCommand
{
    private const long LeastBandwidth = 64 << 10;

    /// <summary>`phaul migrate`.</summary>
    public static Command Create(Streams streams)
    {
        var convergenceDefaults = new ConvergenceOptions();
        var pid = Quantities.Pid("The root of the process tree", required: true);
        var mode = ModeOption.Create();
        var bandwidth = Quantities.Size("--bandwidth-limit", "Bytes a second, 64K at least, before the program is frozen, such as 100M; memory that follows in post-copy is not limited", LeastBandwidth);
        var limitFrozen = new Option<bool>("--limit-frozen-part") { Description = "Apply --bandwidth-limit while the program is frozen, too" };
        var maxDowntime = Quantities.Span("--max-downtime", "Pre-copy, prefetch, hybrid: hand over as soon as the predicted downtime fits, such as 500ms");
        var maxIterations = Quantities.Number("--max-iterations", "Pre-copy, prefetch, hybrid: at most so many iterations", convergenceDefaults.MaxIterations, 1, 1000);
        var minPages = Quantities.Number("--min-pages", "Pre-copy, prefetch, hybrid: hand over once an iteration writes fewer pages", convergenceDefaults.MinPages, 0, long.MaxValue);
        var maxGrowth = Quantities.Number(
            "--max-growth", "Pre-copy, prefetch, hybrid: hand over once an iteration writes so many pages more than the one before", convergenceDefaults.MaxGrowth, 0,
            long.MaxValue);
        var maxFrozen = Quantities.Span("--max-frozen", "Roll back if the program stays frozen for longer [default: 5m]");
        var connectTimeout = Quantities.Span("--connect-timeout", "Time allowed to connect and authenticate [default: 15s]");
        var peerTimeout = Quantities.Span("--peer-timeout", "A destination that is silent for so long is taken for lost [default: 15s]");
        var keepImages = new Option<bool>("--keep-images") { Description = "Keep images and logs on both hosts after success" };
        var autoDedup = new Option<bool>("--auto-dedup") { Description = "Pre-copy, prefetch, hybrid: free on the destination's disk what a later iteration has overwritten" };
        var eagerRestore = new Option<bool>("--eager-restore") { Description = "Read all memory back before the program runs; by default most of it follows" };
        var collapseMemory = new Option<bool>("--collapse-memory")
        {
            Description = "Stop-and-copy, prefetch and post-copy, each named with --mode: gather memory into huge pages before the freeze, which shortens that of many gigabytes",
        };
        var compression = new Option<CompressionMode>("--compression")
        {
            Description = "Compress memory on its way: auto (where it then arrives sooner), on or off",
            HelpName = "WHEN",
            DefaultValueFactory = _ => CompressionMode.Auto,
        };
        var durable = new Option<bool>("--durable") { Description = "Images and journal reach the disk before the commit" };
        var destination = new DestinationArguments();
        var tree = new TreeArguments();
        var host = new HostArguments();
        var json = CommandRun.Json();
        var verbose = CommandRun.Verbose();
        var criuLog = CommandRun.CriuLog();

        var command = new Command(
            "migrate", "Moves a process tree from this host to another, where `phaul serve` runs. Ctrl+C or SIGTERM before the commit rolls back.") { pid };
        destination.AddTo(command, required: true);
        command.Add(mode);
        tree.AddTo(command);
        foreach (var option in (Option[])[bandwidth, limitFrozen, maxDowntime, maxIterations, minPages, maxGrowth, maxFrozen, connectTimeout, peerTimeout])
            command.Add(option);
        host.AddTo(command);
        foreach (var option in (Option[])[autoDedup, keepImages, durable, eagerRestore, collapseMemory, compression, json, verbose, criuLog])
            command.Add(option);

        command.SetAction(async (arguments, _) =>
        {
            var display = new TextDisplay(streams, arguments.GetValue(verbose));
            return await CommandRun.WithDisplayAsync(streams, arguments.GetValue(json), display, async pump =>
            {
                using var peers = destination.ReadPeers(arguments);
                var request = new MigrationRequest
                {
                    Pid = arguments.GetValue(pid)!.Value,
                    Destination = destination.Read(arguments, peers),
                    Mode = arguments.GetValue(mode),
                    Options = tree.Read(arguments),
                    Convergence = new ConvergenceOptions
                    {
                        MaxIterations = arguments.GetValue(maxIterations),
                        MinPages = arguments.GetValue(minPages),
                        MaxGrowth = arguments.GetValue(maxGrowth),
                        MaxDowntime = arguments.GetValue(maxDowntime),
                    },
                    CriuPath = arguments.GetValue(host.Criu)!,
                    WorkDirectory = arguments.GetValue(host.WorkDirectory),
                    StateDirectory = arguments.GetValue(host.StateDirectory),
                    AutoDedup = arguments.GetValue(autoDedup),
                    KeepImages = arguments.GetValue(keepImages),
                    BandwidthLimit = arguments.GetValue(bandwidth),
                    LimitFrozenPart = arguments.GetValue(limitFrozen),
                    Durable = arguments.GetValue(durable),
                    EagerRestore = arguments.GetValue(eagerRestore),
                    CollapseMemory = arguments.GetValue(collapseMemory),
                    Compression = arguments.GetValue(compression),
                    FollowCriuLog = arguments.GetValue(criuLog),
                };
                request = request with
                {
                    MaxFrozen = arguments.GetValue(maxFrozen) ?? request.MaxFrozen,
                    ConnectTimeout = arguments.GetValue(connectTimeout) ?? request.ConnectTimeout,
                    PeerTimeout = arguments.GetValue(peerTimeout) ?? request.PeerTimeout,
                };
                return await MigrateAsync(pump, request, streams);
            });
        });
        return command;
    }

    private static async Task<ExitCode> MigrateAsync(EventPump pump, MigrationRequest request, Streams streams)
    {
        // A rollback must not be cut short by impatience; SIGKILL is safe, too: CRIU then resumes the program
        using var signals = new TerminationSignals(_ => streams.Error.WriteLine("phaul: still at it: before the commit it rolls back, after it the program moves, and post-copy loses it if phaul ends before its memory has followed"));
        var migration = new SourceMigration(request, pump);
        var result = await migration.RunAsync(signals.Token);
        await pump.ReportAsync(JsonLines.From(result), MigrationText.Summary(result).TrimEnd());
        if (signals.Received)
            streams.Error.WriteLine("phaul: too late to cancel: the migration was committed");
        return ExitCode.Done;
    }
}
