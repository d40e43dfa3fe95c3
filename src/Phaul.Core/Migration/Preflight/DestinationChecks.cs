// The checks on the destination, before anything is touched, against the source's survey of the tree.

using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

/// <summary>What must hold on the destination.</summary>
internal static class DestinationChecks
{
    /// <summary>Makes all checks; none stops the others, none throws for what it finds, each is bounded in time.</summary>
    /// <param name="survey">
    /// What the source says of the tree. It comes from a peer: nothing in it is trusted further than to be compared.
    /// </param>
    /// <param name="server">This server's options.</param>
    /// <param name="process">What CRIU will be told.</param>
    /// <param name="workDirectory">Where images and logs will be put; need not exist yet.</param>
    /// <param name="mode">How memory will move; never Auto.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<IReadOnlyList<CheckResult>> RunAsync(
        TreeSurvey survey, DestinationServerOptions server, ProcessOptions process, string workDirectory, MigrationMode mode,
        CancellationToken cancellationToken = default)
    {
        using var probing = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var criu = CriuFacts.ProbeAsync(server.CriuPath, probing.Token);
        try
        {
            return await RunAsync(
                survey, process, workDirectory, server.MinFreeBytes, mode, ProcFileSystem.Host, criu, CheckList.DefaultLimit,
                cancellationToken)
                .ConfigureAwait(false);
        }
        finally
        {
            await probing.CancelAsync().ConfigureAwait(false);
            await ((Task)criu).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    internal static Task<IReadOnlyList<CheckResult>> RunAsync(
        TreeSurvey survey, ProcessOptions process, string workDirectory, long minFreeBytes, MigrationMode mode, ProcFileSystem proc,
        Task<CriuFacts> criu, TimeSpan limit, CancellationToken cancellationToken)
    {
        var host = HostFacts.Read(proc);
        var checks = new CheckList(MigrationSide.Destination, Environment.MachineName, limit);
        CriuChecks.AddTo(checks, criu);
        checks.Add("PageServerFormat", async token =>
            HostChecks.PageServerFormat(survey, await criu.WaitAsync(token).ConfigureAwait(false)));
        checks.Add("LazyPages", async token => CriuChecks.LazyPages(await criu.WaitAsync(token).ConfigureAwait(false), mode));
        checks.Add("Architecture", _ => HostChecks.Architecture(survey, host));
        checks.Add("PageSize", _ => HostChecks.PageSize(survey, host));
        checks.Add("Cpu", _ => HostChecks.Cpu(survey, host));
        checks.Add("Capabilities", _ => CapabilityReachCheck.Run(survey, ProcStatus.Read(proc, "self")));
        checks.Add("FreePids", token => PidCheck.Run(survey, process, proc, token));
        checks.Add("Files", token => FileCheck.Run(survey, process, token));
        checks.Add("Space", _ => HostChecks.Space(survey, workDirectory, minFreeBytes, mode));
        checks.Add("Memory", _ => HostChecks.Memory(survey, proc));
        checks.Add("Ports", _ => NetworkChecks.Ports(survey, proc));
        checks.Add("Addresses", _ => NetworkChecks.Addresses(survey, process, NetworkChecks.OwnAddresses()));
        return checks.RunAsync(cancellationToken);
    }
}
