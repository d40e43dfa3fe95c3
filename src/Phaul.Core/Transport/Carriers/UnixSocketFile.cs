// The file of a UNIX socket: told apart from other files, and removed when it is stale.

using System.Net.Sockets;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Phaul.Native;

namespace Phaul.Transport;

internal static class UnixSocketFile
{
    // What the kernel answers to opening a socket as a file (ENXIO).
    private const int NoSuchDeviceOrAddress = 6;

    public static bool Exists(string path) => File.Exists(path) || Directory.Exists(path) || new FileInfo(path).LinkTarget is not null;

    /// <summary>Removes a socket on which nobody listens any more.</summary>
    /// <exception cref="IOException">It is no socket, or somebody listens on it.</exception>
    public static void RemoveStale(string path)
    {
        if (!IsSocket(path))
            throw new IOException("there is something of that name that is no socket");
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            // Does not wait: whether somebody listens is known at once, and with a full queue it says EAGAIN.
            socket.Blocking = false;
            socket.Connect(new UnixDomainSocketEndPoint(path));
        }
        catch (SocketException exception) when (exception.SocketErrorCode == SocketError.ConnectionRefused)
        {
            File.Delete(path);
            return;
        }
        catch (SocketException)
        {
            // Busy, but alive.
        }

        throw new IOException("another process listens there");
    }

    private static bool IsSocket(string path)
    {
        if (new FileInfo(path).LinkTarget is not null)
            return false;
        using var handle = new SafeFileHandle(
            Libc.Open(path, Libc.OpenReadOnly | Libc.OpenNonBlocking | Libc.OpenCloseOnExec, 0), ownsHandle: true);
        return handle.IsInvalid && Marshal.GetLastPInvokeError() == NoSuchDeviceOrAddress;
    }
}
