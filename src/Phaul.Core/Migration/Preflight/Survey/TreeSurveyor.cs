// Builds, from /proc and while the tree runs undisturbed, what the destination must know to check itself.

using System.Net;
using Google.Protobuf;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

/// <summary>Looks at a tree for the destination's sake.</summary>
internal static class TreeSurveyor
{
    /// <summary>Surveys a tree. Bounded in time and bytes; what cannot be read is skipped with a note.</summary>
    /// <param name="tree">The tree.</param>
    /// <param name="criuPath">The source's criu, for its version; one that does not work leaves the version unknown.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<TreeSurvey> SurveyAsync(ProcessTree tree, string criuPath, CancellationToken cancellationToken = default)
    {
        using var asking = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var version = VersionAsync(criuPath, asking.Token);
        try
        {
            var inspection = await TreeInspector.InspectAsync(tree, cancellationToken).ConfigureAwait(false);
            // Hashing takes its time: on a thread of the pool.
            var survey = await Task.Run(() => Survey(inspection, ProcFileSystem.Host, cancellationToken), cancellationToken)
                .ConfigureAwait(false);
            survey.CriuVersion = Number(await version.ConfigureAwait(false));
            return survey;
        }
        finally
        {
            await asking.CancelAsync().ConfigureAwait(false);
            await ((Task)version).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>A version as one number, as the survey has it.</summary>
    internal static uint Number(CriuVersion? version) =>
        version is null ? 0 : (uint)((version.Major * 10_000) + (version.Minor * 100) + version.Sublevel);

    internal static TreeSurvey Survey(TreeInspection tree, ProcFileSystem proc, CancellationToken cancellationToken)
    {
        var host = HostFacts.Read(proc);
        var unlinked = UnlinkedFile.Of(tree, proc);
        var files = new FileSurvey(tree, proc);
        var survey = new TreeSurvey
        {
            RootPid = tree.Tree.RootPid,
            MemoryBytes = (ulong)SurveyEstimates.MemoryBytes(tree, proc),
            ImageBytes = (ulong)SurveyEstimates.ImageBytes(tree, unlinked),
            Architecture = host.Architecture,
            PageSize = host.PageSize,
            KernelRelease = host.KernelRelease,
            CpuModel = host.CpuModel,
            Capabilities = tree.Processes.Aggregate(0UL, (all, process) => all | process.Status.AllCapabilities),
            HasSharedMemory = tree.Processes.SelectMany(process => process.Mappings).Any(mapping => mapping.IsSharedMemory),
            LargestMapping = tree.Processes.SelectMany(process => process.Mappings)
                .Where(mapping => !mapping.IsShared && mapping.Inode == 0)
                .Select(mapping => mapping.Length).DefaultIfEmpty().Max(),
        };
        survey.Members.AddRange(tree.Tree.Members.Select(member => new SurveyedProcess
        {
            Pid = member.Pid,
            ThreadIds = { member.ThreadIds },
            SessionId = member.SessionId,
            ProcessGroupId = member.ProcessGroupId,
            Command = member.Command,
        }));
        survey.Files.AddRange(files.Collect(cancellationToken));
        survey.Uids.AddRange(
            tree.Processes.Where(process => process.Status.Uids.Count > 1).Select(process => process.Status.Uids[1]).Distinct().Order());
        survey.Features.AddRange(NeededOptions.NamesFor(tree, unlinked));
        survey.CpuFlags.AddRange(host.CpuFlags.Where(flag => HostFacts.IsVisibleToPrograms(host.Architecture, flag)));
        survey.OwnNamespaces.AddRange(tree.OwnNamespaces.Order(StringComparer.Ordinal));
        survey.ListeningPorts.AddRange(tree.InetSockets.Values.Where(socket => socket.IsListening)
            .Select(socket => new SurveyedPort
            {
                Protocol = socket.Protocol,
                Address = ByteString.CopyFrom(socket.Local.Address.GetAddressBytes()),
                Port = (uint)socket.Local.Port,
            })
            .Distinct());
        survey.ConnectedAddresses.AddRange(tree.InetSockets.Values.Where(socket => socket.IsConnection)
            .Select(socket => socket.Local.Address.IsIPv4MappedToIPv6 ? socket.Local.Address.MapToIPv4() : socket.Local.Address)
            .Where(address => !IPAddress.IsLoopback(address)).Distinct()
            .Select(address => ByteString.CopyFrom(address.GetAddressBytes())));
        survey.Notes.AddRange(tree.Notes.Concat(files.Notes).Take(100));
        return survey;
    }

    private static async Task<CriuVersion?> VersionAsync(string criuPath, CancellationToken cancellationToken)
    {
        var client = new CriuClient(new CriuClientOptions
        {
            CriuPath = criuPath,
            RequestTimeout = TimeSpan.FromSeconds(8),
            EndTimeout = TimeSpan.FromSeconds(2),
        });
        await using (client.ConfigureAwait(false))
        {
            try
            {
                return await client.GetVersionAsync(cancellationToken).ConfigureAwait(false);
            }
            catch (CriuException)
            {
                return null; // SourceChecks say why.
            }
        }
    }
}
