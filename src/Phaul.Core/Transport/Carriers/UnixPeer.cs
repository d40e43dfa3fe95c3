// Who is on the other end of a UNIX socket: only root and this process's own user may be.

using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Phaul.Transport;

internal static class UnixPeer
{
    private const int SolSocket = 1;
    private const int SoPeerCred = 17;

    // struct ucred: pid, uid, gid.
    private const int CredentialsLength = 3 * sizeof(int);

    /// <exception cref="PhaulException">AuthenticationFailed: the peer is another user.</exception>
    public static void Check(Socket socket, string path)
    {
        uint user = User(socket);
        if (user != 0 && user != OwnUser())
        {
            throw new PhaulException(
                PhaulErrorId.AuthenticationFailed,
                $"The process at the other end of {path} belongs to user {user}, neither to root nor to this user.");
        }
    }

    private static uint User(Socket socket)
    {
        Span<byte> credentials = stackalloc byte[CredentialsLength];
        if (socket.GetRawSocketOption(SolSocket, SoPeerCred, credentials) != CredentialsLength)
            throw new PhaulException(
                PhaulErrorId.AuthenticationFailed, "The kernel does not say who is at the other end of the UNIX socket.");
        return MemoryMarshal.Cast<byte, uint>(credentials)[1];
    }

    private static uint OwnUser()
    {
        // "Uid:" real, effective, saved, file system.
        string line = File.ReadLines("/proc/self/status").First(text => text.StartsWith("Uid:", StringComparison.Ordinal));
        return uint.Parse(line.Split('\t', StringSplitOptions.RemoveEmptyEntries)[2], CultureInfo.InvariantCulture);
    }
}
