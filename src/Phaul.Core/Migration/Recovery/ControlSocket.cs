// How a command on a host reaches the servers that run there: a UNIX socket each, in the state directory.

using Phaul.Journal;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>
/// A prepared tree is held by the process of its server, so whoever settles it on this host has to ask that process.
/// <c>STATE/servers/PID-….sock</c>, mode 0600; only root and the server's own user get through.
/// </summary>
internal static class ControlSocket
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(5);

    /// <summary>Listens; without it the server works, too, and says that it cannot be asked.</summary>
    public static PhaulListener? TryListen(StateDirectory stateDirectory, Action<string> notice)
    {
        try
        {
            var directory = DirectoryOf(stateDirectory);
            Directory.CreateDirectory(stateDirectory.Path, OwnerOnly);
            Directory.CreateDirectory(directory, OwnerOnly);
            return PhaulListener.Start(new ListenOptions
            {
                UnixSocketPath = Path.Combine(directory, $"{Environment.ProcessId}-{Guid.NewGuid().ToString("N")[..8]}.sock"),
                Rejected = notice,
            });
        }
        catch (Exception exception) when (exception is PhaulException or IOException or UnauthorizedAccessException)
        {
            notice($"Resolve-PhaulMigration and phaul resolve on this host will not reach this server: {exception.Message}");
            return null;
        }
    }

    /// <summary>Asks the servers of this host to settle a migration; null: none of them holds it, or could take it up.</summary>
    /// <exception cref="PhaulException">The server that holds it failed at it.</exception>
    public static async Task<MigrationResolution?> AskAsync(
        StateDirectory stateDirectory, string migrationId, OperatorWord word, string by, CancellationToken cancellationToken)
    {
        foreach (var path in Paths(stateDirectory))
        {
            PhaulConnection connection;
            try
            {
                connection = await PhaulConnector.ConnectAsync(
                    new MigrationEndpoint { UnixSocketPath = path }, ConnectTimeout, null, cancellationToken).ConfigureAwait(false);
            }
            catch (PhaulException exception) when (exception.ErrorId is PhaulErrorId.ConnectionFailed)
            {
                // Its server has ended without removing it.
                RemoveIfStale(path);
                continue;
            }

            await using var server = new RemoteDestination(connection);
            var answer = await server.ResolveAsync(migrationId, word, by, cancellationToken).ConfigureAwait(false);
            if (answer.Json.Length > 0)
                return RecordJson.ReadResolution(answer.Json, migrationId);
        }

        return null;
    }

    private static void RemoveIfStale(string path)
    {
        try
        {
            UnixSocketFile.RemoveStale(path);
        }
        catch (Exception exception) when (exception is PhaulException or IOException or UnauthorizedAccessException or System.Net.Sockets.SocketException)
        {
            // It may be a living server's after all, or not ours to remove.
        }
    }

    private static string DirectoryOf(StateDirectory stateDirectory) => Path.Combine(stateDirectory.Path, "servers");

    private static string[] Paths(StateDirectory stateDirectory)
    {
        try
        {
            return Directory.GetFiles(DirectoryOf(stateDirectory), "*.sock");
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
