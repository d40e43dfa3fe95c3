// The source side: pre-dump iterations while the program runs, then the hand-over. What of a migration is CRIU's.

using System.Diagnostics;
using System.Runtime.InteropServices;
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Images;
using Phaul.Native;

namespace Phaul;

/// <summary>
/// Migrates one process tree. The counterpart of P.Haul's client: it drives CRIU on this host and calls the other host
/// through <see cref="IPhaulRemote"/>; the last step is <see cref="IPhaulLocal"/>'s.
/// </summary>
public sealed class PhaulClient
{
    // A dump takes as long as its memory takes to move. What guards it is whoever moves it: the link's own time-outs, and the
    // limit on frozen time.
    private static readonly TimeSpan DumpLimit = TimeSpan.FromDays(7);

    private readonly IPhaulLocal _local;
    private readonly IPhaulRemote _remote;
    private readonly PhaulConfig _config;

    /// <summary>Makes a client; nothing is touched yet.</summary>
    /// <param name="local">The engine-specific last step.</param>
    /// <param name="remote">The destination.</param>
    /// <param name="config">Which tree, through which socket, with images where.</param>
    /// <exception cref="ArgumentException">The pid or the work directory cannot be right.</exception>
    public PhaulClient(IPhaulLocal local, IPhaulRemote remote, PhaulConfig config)
    {
        ArgumentNullException.ThrowIfNull(local);
        ArgumentNullException.ThrowIfNull(remote);
        ArgumentNullException.ThrowIfNull(config);
        if (config.Pid <= 1)
            throw new ArgumentException($"{config.Pid} is not the pid of a process that can be migrated.", nameof(config));
        if (!Directory.Exists(config.WorkDirectory))
            throw new ArgumentException($"The work directory {config.WorkDirectory} does not exist.", nameof(config));
        (_local, _remote, _config) = (local, remote, config);
    }

    /// <summary>
    /// Copies memory in iterations while the program runs (where dirty memory is tracked), then hands over.
    /// When it returns, the tree is gone here and runs there; when it throws, the tree was never stopped or was resumed, unless
    /// <see cref="IPhaulLocal"/> had let it be killed.
    /// </summary>
    /// <param name="progress">
    /// Told of each iteration as it finishes. The final dump is reported if <see cref="IPhaulLocal"/> put its images into
    /// the next numbered directory of the work directory.
    /// </param>
    /// <param name="cancellationToken">Rolls back, as long as <see cref="IPhaulLocal"/> has not committed.</param>
    /// <exception cref="CriuException">CRIU failed; nothing was lost.</exception>
    public Task MigrateAsync(IProgress<PhaulIteration>? progress = null, CancellationToken cancellationToken = default) =>
        MigrateAsync(
            iteration =>
            {
                progress?.Report(iteration);
                return Task.CompletedTask;
            },
            cancellationToken);

    /// <summary>As the public one, for an observer that takes its time.</summary>
    internal async Task MigrateAsync(Func<PhaulIteration, Task> finished, CancellationToken cancellationToken)
    {
        var chain = new ImageChain(_config.WorkDirectory);
        await using var criu = new CriuClient(
            new CriuClientOptions
            {
                CriuPath = _config.CriuPath,
                MemorySocket = _config.MemorySocket,
                InheritedDescriptors = _config.LateSocket is { } late
                    ? new Dictionary<int, SafeHandle> { [PhaulConfig.LateDescriptor] = late.SafeHandle }
                    : new Dictionary<int, SafeHandle>(),
                RequestTimeout = DumpLimit,
            });
        var history = new List<IterationFigures>();
        var lastImages = "";

        if (_config.TrackMemory ?? await TracksDirtyMemoryAsync(cancellationToken).ConfigureAwait(false))
            lastImages = await PreCopyAsync(criu, chain, history, finished, cancellationToken).ConfigureAwait(false);

        var clock = IterationClock.Start(_config);
        await _remote.StartIterationAsync(cancellationToken).ConfigureAwait(false);
        if (_config.IterationsEnded is { } ended)
            await ended().ConfigureAwait(false);
        // Of iterations that CRIU has not made itself it knows nothing
        await _local.DumpCopyRestoreAsync(criu, _config, _config.Prefetch is null ? lastImages : "", cancellationToken).ConfigureAwait(false);
        // For an engine that has not stopped it yet, as it must before it restores
        await _remote.StopIterationAsync(CancellationToken.None).ConfigureAwait(false);

        if (ImageChain.Continue(_config.WorkDirectory).Last is { } final && final.Path != lastImages
            && (_config.LateStatistics is not null || File.Exists(Path.Combine(final.Path, CriuStatistics.DumpImage))))
        {
            await finished(clock.Finish(
                _config, history.Count + 1, IterationKind.FinalDump, FinalStatistics(final.Path), history,
                new ConvergenceVerdict(
                    IterationDecision.Final, _config.LateSocket is null ? "frozen for the hand-over" : "handed over, and its memory followed", null))).ConfigureAwait(false);
        }
    }

    // Comparing everything once more will take about as long as in the last round
    private TimeSpan? HandOverCost => _config.Prefetch is { } prefetch
        ? (_config.HandOverCost ?? ConvergencePolicy.DefaultFixedCost) + prefetch.ComparingTime
        : _config.HandOverCost;

    private DumpStatistics FinalStatistics(string images)
    {
        if (_config.LateStatistics is { } late)
            return late();
        var statistics = CriuStatistics.ReadDump(images);
        var skipped = _config.Prefetch?.Filter?.PagesSkipped ?? 0;
        return statistics with { PagesSkippedParent = statistics.PagesSkippedParent + skipped, PagesWritten = statistics.PagesWritten - skipped };
    }

    private async Task<string> PreCopyAsync(
        CriuClient criu, ImageChain chain, List<IterationFigures> history, Func<PhaulIteration, Task> finished, CancellationToken cancellationToken)
    {
        TimeSpan? previousStart = null;
        var sinceFirst = Stopwatch.StartNew();
        while (true)
        {
            var start = sinceFirst.Elapsed;
            var clock = IterationClock.Start(_config);
            await _remote.StartIterationAsync(cancellationToken).ConfigureAwait(false);
            var images = chain.OpenNext();
            var fetched = _config.Prefetch is { } prefetch ? await prefetch.CopyAsync(cancellationToken).ConfigureAwait(false) : null;
            if (fetched is null)
                await PreDumpAsync(criu, images, cancellationToken).ConfigureAwait(false);
            await _remote.StopIterationAsync(cancellationToken).ConfigureAwait(false);

            var statistics = fetched ?? CriuStatistics.ReadDump(images.Path);
            history.Add(clock.Figures(_config, statistics, start - previousStart));
            previousStart = start;
            var verdict = ConvergencePolicy.Decide(history, _config.Convergence, HandOverCost);
            await finished(clock.Finish(_config, history.Count, IterationKind.PreDump, statistics, history, verdict)).ConfigureAwait(false);
            if (verdict.Decision == IterationDecision.HandOver)
                return images.Path;
        }
    }

    private async Task PreDumpAsync(CriuClient criu, ImageDirectory images, CancellationToken cancellationToken)
    {
        using var directory = DirectoryDescriptor.Open(images.Path);
        await criu.PreDumpAsync(DumpRequest.ForPreDump(_config, criu, directory, images.Parent), null, cancellationToken).ConfigureAwait(false);
    }

    private async Task<bool> TracksDirtyMemoryAsync(CancellationToken cancellationToken)
    {
        // A session of its own: a feature check would otherwise fork inside the session that pre-dumps use.
        await using var criu = new CriuClient(new CriuClientOptions { CriuPath = _config.CriuPath });
        return (await criu.CheckFeaturesAsync(cancellationToken).ConfigureAwait(false)).MemTrack;
    }
}
