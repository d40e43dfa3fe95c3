// Stop-PhaulServer: ends servers of this session.

using System.Management.Automation;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Objects;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Stops listening, rolls back what is not prepared, and returns when everything has ended.</summary>
[Cmdlet(VerbsLifecycle.Stop, "PhaulServer", DefaultParameterSetName = ByIdSet, SupportsShouldProcess = true)]
[OutputType(typeof(PhaulServerInfo))]
public sealed class StopPhaulServerCommand : PhaulCmdlet
{
    private const string ByIdSet = "Id";
    private const string ByServerSet = "Server";

    /// <summary>The numbers of the servers.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ByIdSet)]
    [ArgumentCompleter(typeof(ServerIdCompleter))]
    public int[] Id { get; set; } = [];

    /// <summary>The servers, as Start-PhaulServer or Get-PhaulServer gives them.</summary>
    [Parameter(Mandatory = true, ParameterSetName = ByServerSet, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    public PhaulServerInfo[] InputObject { get; set; } = [];

    /// <summary>Emit the stopped servers.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (PhaulServerInfo server in ParameterSetName == ByServerSet ? InputObject : ById())
        {
            if (ShouldProcess(server.ToString(), "Stop serving migrations"))
            {
                try
                {
                    Await(token => SessionServers.StopAsync(server, token));
                }
                catch (PhaulException failure)
                {
                    WriteError(FailureRecord.From(failure, server));
                }

                if (PassThru)
                {
                    WriteObject(server.Shown());
                }
            }
        }
    }

    private IEnumerable<PhaulServerInfo> ById()
    {
        foreach (int id in Id)
        {
            if (SessionServers.All.FirstOrDefault(server => server.Id == id) is { } server)
            {
                yield return server;
            }
            else
            {
                WriteError(NotFoundRecord.Server(id));
            }
        }
    }
}
