// What every TCP connection gets, and the rule for those without TLS.

using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;

namespace Phaul.Transport;

internal static class TcpCarrier
{
    private const int TcpNotSentLowat = 25;
    private const int UnsentLimit = 512 << 10;

    public static void Configure(Socket socket)
    {
        socket.NoDelay = true;
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.KeepAlive, true);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveTime, 15);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveInterval, 5);
        socket.SetSocketOption(SocketOptionLevel.Tcp, SocketOptionName.TcpKeepAliveRetryCount, 3);

        // The kernel sizes the buffers itself, as large as the path needs; but what is not under way yet stays with us, so
        // that a control message does not wait behind megabytes of pages and progress is seen as it happens.
        Span<byte> limit = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(limit, UnsentLimit);
        if (!BitConverter.IsLittleEndian)
            limit.Reverse();
        socket.SetRawSocketOption((int)SocketOptionLevel.Tcp, TcpNotSentLowat, limit);
    }

    /// <summary>Without TLS both ends must be loopback addresses: the real ones, not those that somebody asked for.</summary>
    /// <exception cref="PhaulException">InvalidRequest.</exception>
    public static void CheckLoopback(Socket socket)
    {
        foreach (EndPoint? end in (EndPoint?[])[socket.RemoteEndPoint, socket.LocalEndPoint])
        {
            if (end is not IPEndPoint { Address: var address } || !IsLoopback(address))
            {
                throw new PhaulException(
                    PhaulErrorId.InvalidRequest, $"Without TLS only loopback addresses may be used, and {end} is none.")
                {
                    RecommendedAction = "Use certificates: phaul new-certificate makes one.",
                };
            }
        }
    }

    public static bool IsLoopback(IPAddress address) =>
        IPAddress.IsLoopback(address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address);
}
