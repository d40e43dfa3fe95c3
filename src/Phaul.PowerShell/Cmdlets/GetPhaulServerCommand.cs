// Get-PhaulServer: the servers of this session.

using System.Management.Automation;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Objects;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits the servers that this session has started and not stopped.</summary>
[Cmdlet(VerbsCommon.Get, "PhaulServer")]
[OutputType(typeof(PhaulServerInfo))]
public sealed class GetPhaulServerCommand : PhaulCmdlet
{
    /// <summary>The numbers of the servers; all without it.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ArgumentCompleter(typeof(ServerIdCompleter))]
    public int[]? Id { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        IReadOnlyList<PhaulServerInfo> all = SessionServers.All;
        foreach (PhaulServerInfo server in all.Where(server => Id is null || Id.Contains(server.Id)))
        {
            WriteObject(server.Shown());
        }

        foreach (int missing in (Id ?? []).Where(id => all.All(server => server.Id != id)))
        {
            WriteError(NotFoundRecord.Server(missing));
        }
    }
}
