// The connecting side: reaches a destination over TCP with TLS, plain loopback TCP, or a UNIX socket.

using System.Net;
using System.Net.Sockets;

namespace Phaul.Transport;

/// <summary>Connects to a <see cref="PhaulListener"/>.</summary>
public static class PhaulConnector
{
    /// <summary>Connects, authenticates and says hello.</summary>
    /// <param name="endpoint">Where to, and how both sides know each other.</param>
    /// <param name="connectTimeout">For everything until the peer has answered Hello.</param>
    /// <param name="options">Limits and self-description; null for the defaults.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">
    /// InvalidRequest (the endpoint cannot be right), ConnectionFailed (not reached in time), AuthenticationFailed (one side does
    /// not accept the other), ProtocolError (no common version).
    /// </exception>
    public static async Task<PhaulConnection> ConnectAsync(
        MigrationEndpoint endpoint,
        TimeSpan connectTimeout,
        ConnectionOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        options ??= new ConnectionOptions();
        options.Check();
        PinnedIdentity? identity = CheckEndpoint(endpoint);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(connectTimeout);
        try
        {
            return endpoint.UnixSocketPath is { } path
                ? await ConnectUnixAsync(path, options, limit.Token).ConfigureAwait(false)
                : await ConnectTcpAsync(endpoint, identity, options, limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw new PhaulException(
                PhaulErrorId.ConnectionFailed, $"{endpoint} did not answer within {connectTimeout.TotalSeconds:0.#} s.", exception)
            {
                Host = endpoint.ToString(),
                RecommendedAction = "See that phaul serve runs there and that no firewall drops its port.",
            };
        }
        catch (OperationCanceledException exception)
        {
            throw new OperationCanceledException(exception.Message, exception, cancellationToken);
        }
    }

    private static PinnedIdentity? CheckEndpoint(MigrationEndpoint endpoint)
    {
        if (endpoint.UnixSocketPath is not null)
            return null;
        if (string.IsNullOrWhiteSpace(endpoint.Host))
            throw new PhaulException(PhaulErrorId.InvalidRequest, "The destination has neither a host nor a UNIX socket.");
        if (endpoint.Port is < 1 or > 65535)
            throw new PhaulException(PhaulErrorId.InvalidRequest, $"{endpoint.Port} is no TCP port.");
        if (endpoint.Certificate is not null)
            return new PinnedIdentity(endpoint.Certificate, endpoint.TrustedFingerprints, TimeProvider.System);
        if (endpoint.InsecureLoopback)
            return null;
        throw new PhaulException(PhaulErrorId.InvalidRequest, $"A connection to {endpoint} needs a certificate of this host.")
        {
            RecommendedAction = "Make one with phaul new-certificate. Without TLS only a UNIX socket or loopback can be used.",
        };
    }

    private static async Task<PhaulConnection> ConnectUnixAsync(string path, ConnectionOptions options, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken).ConfigureAwait(false);
            UnixPeer.Check(socket, path);
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException)
        {
            socket.Dispose();
            throw NotReached(path, exception.Message, exception);
        }
        catch
        {
            socket.Dispose();
            throw;
        }

        var carrier = new CarrierStream(socket);
        return await PhaulConnection.OpenAsync(
            carrier, carrier, ConnectionRole.Initiator, new Link(path), options, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<PhaulConnection> ConnectTcpAsync(
        MigrationEndpoint endpoint, PinnedIdentity? identity, ConnectionOptions options, CancellationToken cancellationToken)
    {
        Socket socket = await ReachAsync(endpoint, cancellationToken).ConfigureAwait(false);
        var carrier = new CarrierStream(socket);
        try
        {
            TcpCarrier.Configure(socket);
            string name = endpoint.ToString();
            if (identity is null)
            {
                TcpCarrier.CheckLoopback(socket);
                return await PhaulConnection.OpenAsync(
                    carrier, carrier, ConnectionRole.Initiator, new Link(name), options, cancellationToken)
                    .ConfigureAwait(false);
            }

            (Stream stream, Link link) = await TlsHandshake.ConnectAsync(carrier, identity, name, cancellationToken).ConfigureAwait(false);
            return await PhaulConnection.OpenAsync(
                carrier, stream, ConnectionRole.Initiator, link, options, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await carrier.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    // Every address of the name in turn, as long as time is left.
    private static async Task<Socket> ReachAsync(MigrationEndpoint endpoint, CancellationToken cancellationToken)
    {
        IPAddress[] addresses;
        try
        {
            addresses = IPAddress.TryParse(endpoint.Host, out IPAddress? literal)
                ? [literal]
                : await Dns.GetHostAddressesAsync(endpoint.Host!, cancellationToken).ConfigureAwait(false);
        }
        catch (SocketException exception)
        {
            throw NotReached(endpoint.ToString(), $"the name {endpoint.Host} could not be resolved: {exception.Message}", exception);
        }

        var failures = new List<string>();
        Exception? last = null;
        foreach (IPAddress address in addresses)
        {
            var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            try
            {
                await socket.ConnectAsync(new IPEndPoint(address, endpoint.Port), cancellationToken).ConfigureAwait(false);
                return socket;
            }
            catch (SocketException exception)
            {
                socket.Dispose();
                failures.Add(addresses.Length == 1 ? exception.Message : $"{address}: {exception.Message}");
                last = exception;
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }

        throw NotReached(endpoint.ToString(), failures.Count > 0 ? string.Join("; ", failures) : "it has no address", last);
    }

    private static PhaulException NotReached(string where, string why, Exception? cause) =>
        new(PhaulErrorId.ConnectionFailed, $"{where} could not be reached: {why}.", cause)
        {
            Host = where,
            RecommendedAction = "See that phaul serve runs there and listens on that address.",
        };
}
