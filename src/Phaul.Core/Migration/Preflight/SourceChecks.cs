// The checks on the source, before anything is touched.

using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>What must hold on the source.</summary>
internal static class SourceChecks
{
    /// <summary>Makes all checks; none stops the others, none throws for what it finds, each is bounded in time.</summary>
    /// <param name="tree">The tree to move.</param>
    /// <param name="request">How.</param>
    /// <param name="workDirectory">Where images and logs will be put; need not exist yet.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<IReadOnlyList<CheckResult>> RunAsync(
        ProcessTree tree, MigrationRequest request, string workDirectory, CancellationToken cancellationToken = default)
    {
        using var probing = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var criu = CriuFacts.ProbeAsync(request.CriuPath, probing.Token, NeedsTracking(request.Mode));
        try
        {
            var inspection = TreeInspector.InspectAsync(tree, probing.Token);
            return await RunAsync(request, workDirectory, inspection, criu, CheckList.DefaultLimit, cancellationToken)
                .ConfigureAwait(false);
        }
        finally
        {
            await probing.CancelAsync().ConfigureAwait(false);
            await ((Task)criu).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    internal static Task<IReadOnlyList<CheckResult>> RunAsync(
        MigrationRequest request, string workDirectory, Task<TreeInspection> inspection, Task<CriuFacts> criu, TimeSpan limit,
        CancellationToken cancellationToken)
    {
        var proc = ProcFileSystem.Host;
        var options = request.Options;
        var checks = new CheckList(MigrationSide.Source, Environment.MachineName, limit);

        CriuChecks.AddTo(checks, criu);
        checks.Add("DirtyTracking", async token => DirtyTracking(await criu.WaitAsync(token).ConfigureAwait(false), request.Mode));
        checks.Add("LazyPages", async token => CriuChecks.LazyPages(await criu.WaitAsync(token).ConfigureAwait(false), request.Mode));
        OfTree("LatePipes", tree => LatePipesCheck.Run(
            proc, ProcStatus.Read(proc, "self") ?? new ProcStatus(), request.Mode, SurveyEstimates.MemoryBytes(tree, proc)));
        OfTree("Capabilities", tree => CapabilityCheck.Run(ProcStatus.Read(proc, "self") ?? new ProcStatus(), tree, options));
        OfTree("Namespaces", tree => RefusalChecks.Namespaces(tree, options));
        OfTree("FileLocks", tree => OptionChecks.FileLocks(tree, options));
        OfTree("TcpEstablished", tree => OptionChecks.TcpEstablished(tree, options));
        OfTree("ExternalUnixSockets", tree => OptionChecks.ExternalUnixSockets(tree, options));
        OfTree("ShellJob", tree => OptionChecks.ShellJob(tree, options));
        OfTree("LinkRemap", tree => OptionChecks.LinkRemap(tree, options));
        OfTree("GhostLimit", tree => OptionChecks.GhostLimit(tree, options));
        OfTree("IoUring", RefusalChecks.IoUring);
        OfTree("Descriptors", tree => RefusalChecks.Descriptors(tree, options));
        OfTree("Inotify", RefusalChecks.Inotify);
        OfTree("SystemVMemory", RefusalChecks.SystemVMemory);
        OfTree("Traced", RefusalChecks.Traced);
        checks.Add("LateMemory", async token =>
            await LateMemoryCheck.RunAsync((await inspection.WaitAsync(token).ConfigureAwait(false)).Tree, proc, token).ConfigureAwait(false));
        checks.Add("SocketOptions", async token =>
        {
            var facts = await criu.WaitAsync(token).ConfigureAwait(false);
            var tree = await inspection.WaitAsync(token).ConfigureAwait(false);
            return [.. RefusalChecks.SocketOptions(tree, facts.Version, HostFacts.Read(proc).KernelRelease)];
        });
        OfTree("Space", tree => Space(workDirectory, SurveyEstimates.ImageBytes(tree, UnlinkedFile.Of(tree, proc))));
        return checks.RunAsync(cancellationToken);

        void OfTree(string name, Func<TreeInspection, IEnumerable<Finding>> check) => checks.AddAfter(name, inspection, check);
    }

    private static bool NeedsTracking(MigrationMode mode) => mode is not (MigrationMode.StopAndCopy or MigrationMode.Prefetch or MigrationMode.PostCopy);

    /// <summary>Whether CRIU can tell what changed between two looks.</summary>
    internal static IReadOnlyList<Finding> DirtyTracking(CriuFacts facts, MigrationMode mode)
    {
        const string kernel =
            "Boot the source with a kernel that has CONFIG_MEM_SOFT_DIRTY (those of Debian, Ubuntu and Fedora on x86-64 do)";
        if (!NeedsTracking(mode)) return [new(CheckVerdict.Skipped, $"{mode} does not need it.")];
        if (facts.Version is null) return [new(CheckVerdict.Skipped, "There is no criu that could be asked.")];
        if (facts.Features is { MemTrack: true } && facts.TrackingFailure is null) return [new(CheckVerdict.Passed, "criu and this kernel track dirty memory.")];

        string why = facts.Features is null
            ? $"Whether dirty memory is tracked could not be found out: {facts.FeatureFailure}"
            : facts.TrackingFailure is { } failure
            ? $"Dirty memory should be tracked here, but a pre-dump of a process made for the trial failed: {failure}"
            : "This kernel does not track dirty memory (no CONFIG_MEM_SOFT_DIRTY)";
        return mode == MigrationMode.Auto
            ? [new(
                CheckVerdict.Warning, $"{why}: all memory moves while the program is frozen (StopAndCopy).",
                $"Use --mode prefetch / -Mode Prefetch where that takes too long. Or: {kernel}.")]
            : [new(CheckVerdict.Failed, $"{why}, and {mode} needs it.", $"Use --mode prefetch / -Mode Prefetch, or StopAndCopy. Or: {kernel}.")];
    }

    private static IEnumerable<Finding> Space(string workDirectory, long needed)
    {
        string existing = ExistingPart(workDirectory);
        long free = FileSystemSpace.AvailableBytes(existing);
        yield return free < needed
            ? new Finding(
                CheckVerdict.Failed, $"{existing} has {free >> 20} MiB free; images other than memory may take {(needed >> 20) + 1} MiB.",
                "Free some space, or give --work-directory / -WorkDirectory on a larger file system.")
            : new Finding(CheckVerdict.Passed, $"{existing} has {free >> 20} MiB free; images may take {(needed >> 20) + 1} MiB.");
    }

    /// <summary>The nearest directory on the way to a path that exists already.</summary>
    internal static string ExistingPart(string path)
    {
        string current = Path.GetFullPath(path);
        while (!Directory.Exists(current) && Path.GetDirectoryName(current) is { } parent) current = parent;
        return current;
    }
}
