// Whether the tree's ports are free here, and its addresses are ours.

using System.Net;
using System.Net.NetworkInformation;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

internal static class NetworkChecks
{
    /// <summary>Looks for sockets that hold a port on which the tree listens.</summary>
    public static IEnumerable<Finding> Ports(TreeSurvey survey, ProcFileSystem proc)
    {
        if (survey.OwnNamespaces.Contains("net"))
        {
            yield return new Finding(CheckVerdict.Skipped, "The tree brings a network namespace of its own.");
            yield break;
        }

        if (survey.ListeningPorts.Count == 0) yield break;
        var here = ProcInetSocket.Read(proc, "self").Where(socket => socket.IsListening).ToList();
        foreach (var port in survey.ListeningPorts)
        {
            if (ToAddress(port.Address.Span) is not { } address || port.Protocol.Length == 0) continue;
            if (here.FirstOrDefault(socket => socket.Local.Port == port.Port && IsRival(port.Protocol, address, socket)) is { } rival)
            {
                yield return new Finding(
                    CheckVerdict.Failed,
                    $"The tree listens on {port.Protocol} {new IPEndPoint(address, (int)port.Port)}; here {rival.Local} is taken.",
                    "Stop what listens there (ss -ltnp shows it), or choose another destination.");
            }
        }
    }

    /// <summary>Looks whether this host owns the addresses of the tree's connections.</summary>
    /// <param name="survey">The tree.</param>
    /// <param name="options">What CRIU will be told.</param>
    /// <param name="own">The addresses of this host.</param>
    public static IEnumerable<Finding> Addresses(TreeSurvey survey, ProcessOptions options, IReadOnlySet<IPAddress> own)
    {
        if (!options.TcpEstablished || survey.OwnNamespaces.Contains("net"))
        {
            yield return new Finding(CheckVerdict.Skipped, "No established connections of this network are moved.");
            yield break;
        }

        foreach (var bytes in survey.ConnectedAddresses)
        {
            if (ToAddress(bytes.Span) is { } address && !own.Contains(address))
            {
                yield return new Finding(
                    CheckVerdict.Warning, $"The tree has TCP connections from {address}, which is not an address of this host.",
                    "Move the address to the destination before the program resumes, or its connections will not survive.");
            }
        }
    }

    /// <summary>The addresses of this host.</summary>
    public static IReadOnlySet<IPAddress> OwnAddresses() => NetworkInterface.GetAllNetworkInterfaces()
        .SelectMany(network => network.GetIPProperties().UnicastAddresses)
        .Select(unicast => Unscoped(unicast.Address))
        .ToHashSet();

    private static IPAddress Unscoped(IPAddress address) => new(address.GetAddressBytes());

    private static IPAddress? ToAddress(ReadOnlySpan<byte> bytes) => bytes.Length is 4 or 16 ? new IPAddress(bytes) : null;

    // Two sockets want the same port if they are of the same kind and their addresses overlap. A socket on [::] takes the
    // IPv4 port, too, unless it was told not to, which cannot be seen from here: it then is a rival of IPv4 only if mapped.
    private static bool IsRival(string protocol, IPAddress address, ProcInetSocket socket)
    {
        if (protocol.StartsWith("tcp", StringComparison.Ordinal) != socket.IsTcp) return false;
        if (protocol != socket.Protocol && !address.IsIPv4MappedToIPv6 && !socket.Local.Address.IsIPv4MappedToIPv6) return false;
        return IsAny(address) || IsAny(socket.Local.Address) || Plain(address).Equals(Plain(socket.Local.Address));
    }

    private static bool IsAny(IPAddress address) => Plain(address).Equals(IPAddress.Any) || address.Equals(IPAddress.IPv6Any);

    private static IPAddress Plain(IPAddress address) => address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
}
