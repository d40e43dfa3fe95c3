// /proc/PID/net/{tcp,tcp6,udp,udp6}: the internet sockets of a network namespace.

using System.Buffers.Binary;
using System.Globalization;
using System.Net;

namespace Phaul.Procfs;

/// <summary>One internet socket.</summary>
/// <param name="Protocol"><c>tcp</c>, <c>tcp6</c>, <c>udp</c>, <c>udp6</c>.</param>
/// <param name="Local">Its own address.</param>
/// <param name="Remote">The address that it is connected to; all zero: none.</param>
/// <param name="State">The kernel's number of the TCP state; 10 is LISTEN, 7 CLOSE.</param>
/// <param name="ReceiveQueue">Bytes not read yet; of a listening socket the connections not accepted yet.</param>
/// <param name="Inode">Its number; 0: it belongs to no descriptor any more.</param>
internal sealed record ProcInetSocket(string Protocol, IPEndPoint Local, IPEndPoint Remote, int State, uint ReceiveQueue, ulong Inode)
{
    private const int CloseState = 7;
    private const int ListenState = 10;

    /// <summary>The tables that are read.</summary>
    public static IReadOnlyList<string> Protocols { get; } = ["tcp", "tcp6", "udp", "udp6"];

    /// <summary>A TCP socket.</summary>
    public bool IsTcp => Protocol[0] == 't';

    /// <summary>It waits for connections, or for datagrams from anyone.</summary>
    public bool IsListening => IsTcp ? State == ListenState : Local.Port != 0 && Remote.Port == 0;

    /// <summary>A TCP connection, in whatever phase.</summary>
    public bool IsConnection => IsTcp && State is not (ListenState or CloseState);

    /// <summary>The sockets of the network namespace that a process is in.</summary>
    /// <param name="proc">The procfs.</param>
    /// <param name="pid">The process, or <c>self</c>.</param>
    public static IReadOnlyList<ProcInetSocket> Read(ProcFileSystem proc, string pid) =>
        [.. Protocols.SelectMany(protocol => proc.ReadText($"{pid}/net/{protocol}") is { } text ? Parse(protocol, text) : [])];

    /// <summary>Parses a table; lines that are none are left out.</summary>
    public static IReadOnlyList<ProcInetSocket> Parse(string protocol, string text)
    {
        var sockets = new List<ProcInetSocket>();
        foreach (string line in text.Split('\n'))
        {
            //  sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid  timeout inode
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields.Length < 10
                || ParseEndPoint(fields[1]) is not { } local || ParseEndPoint(fields[2]) is not { } remote
                || !int.TryParse(fields[3], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int state)
                || fields[4].Split(':') is not [_, var receive]
                || !uint.TryParse(receive, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint queue)
                || !ulong.TryParse(fields[9], NumberStyles.None, CultureInfo.InvariantCulture, out ulong inode))
                continue;
            sockets.Add(new ProcInetSocket(protocol, local, remote, state, queue, inode));
        }

        return sockets;
    }

    // The address is printed as 32-bit words of the host's byte order, each of which holds network order in memory.
    private static IPEndPoint? ParseEndPoint(string text)
    {
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        if (colon is not (8 or 32)
            || !ushort.TryParse(text.AsSpan(colon + 1), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort port))
            return null;

        byte[] address = new byte[colon / 2];
        for (int word = 0; word < colon / 8; word++)
        {
            if (!uint.TryParse(text.AsSpan(word * 8, 8), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint number))
                return null;
            if (BitConverter.IsLittleEndian) BinaryPrimitives.WriteUInt32LittleEndian(address.AsSpan(word * 4), number);
            else BinaryPrimitives.WriteUInt32BigEndian(address.AsSpan(word * 4), number);
        }

        return new IPEndPoint(new IPAddress(address), port);
    }
}
