// The servers that this session has started: where Get-PhaulServer and Stop-PhaulServer find them.

namespace Phaul.PowerShell.Objects;

/// <summary>The servers of all runspaces of this process, by number.</summary>
internal static class SessionServers
{
    private static readonly object Lock = new();
    private static readonly SortedDictionary<int, PhaulServerInfo> Servers = [];
    private static int _latestId;

    /// <summary>Those that have not been stopped.</summary>
    public static IReadOnlyList<PhaulServerInfo> All
    {
        get
        {
            lock (Lock)
            {
                return [.. Servers.Values];
            }
        }
    }

    /// <summary>Adds a started server.</summary>
    public static PhaulServerInfo Add(DestinationServer server, Guid runspaceId)
    {
        lock (Lock)
        {
            var info = new PhaulServerInfo(++_latestId, runspaceId, server);
            Servers.Add(info.Id, info);
            return info;
        }
    }

    /// <summary>Stops a server: what is not prepared is rolled back, what is is finished. It is forgotten even if that fails.</summary>
    public static async Task StopAsync(PhaulServerInfo info, CancellationToken cancellationToken)
    {
        lock (Lock)
        {
            Servers.Remove(info.Id);
        }

        try
        {
            await info.Server.StopAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            await info.Server.DisposeAsync().ConfigureAwait(false);
        }
    }
}
