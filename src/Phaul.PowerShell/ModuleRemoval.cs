// What Remove-Module does: the session's servers are stopped.

using System.Management.Automation;
using System.Management.Automation.Runspaces;
using Phaul.PowerShell.Objects;

namespace Phaul.PowerShell;

/// <summary>Called by PowerShell when the module is removed. Importing it does nothing.</summary>
public sealed class ModuleRemoval : IModuleAssemblyCleanup
{
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(60);

    /// <inheritdoc/>
    public void OnRemove(PSModuleInfo psModuleInfo)
    {
        Guid? runspace = Runspace.DefaultRunspace?.InstanceId;
        var ours = SessionServers.All.Where(server => server.RunspaceId == runspace).ToList();
        if (ours.Count > 0)
        {
            // PowerShell waits here for the module to be gone; a server that rolls back may take a moment
            using var limit = new CancellationTokenSource(Grace);
            Task.WhenAll(ours.Select(server => Task.Run(() => SessionServers.StopAsync(server, limit.Token)))).GetAwaiter().GetResult();
        }
    }
}
