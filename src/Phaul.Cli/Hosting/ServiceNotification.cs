// systemd's notification protocol (sd_notify(3)): for `Type=notify` units.

using System.Net.Sockets;
using System.Text;

namespace Phaul.Cli.Hosting;

/// <summary>Tells the service manager, if there is one.</summary>
internal static class ServiceNotification
{
    /// <summary>The service works.</summary>
    public const string Ready = "READY=1";

    /// <summary>The service is ending.</summary>
    public const string Stopping = "STOPPING=1";

    /// <summary>Sends <paramref name="state"/> to the socket named by NOTIFY_SOCKET; does nothing without one, or if nobody listens.</summary>
    public static void Send(string state) => Send(state, Environment.GetEnvironmentVariable("NOTIFY_SOCKET"));

    /// <summary>Sends <paramref name="state"/> to <paramref name="socketPath"/> (a leading @ means an abstract socket).</summary>
    public static void Send(string state, string? socketPath)
    {
        if (string.IsNullOrEmpty(socketPath))
            return;
        if (socketPath[0] == '@')
            socketPath = '\0' + socketPath[1..];
        try
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            socket.SendTimeout = 1000;
            socket.SendTo(Encoding.UTF8.GetBytes(state), new UnixDomainSocketEndPoint(socketPath));
        }
        catch (SocketException)
        {
            // The service works whether or not the manager hears it
        }
    }
}
