// The listening side: accepts, authenticates and greets many at once, so that nobody has to wait for a slow or hostile peer.

using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Threading.Channels;

namespace Phaul.Transport;

/// <summary>Where a <see cref="PhaulListener"/> listens and whom it accepts.</summary>
public sealed record ListenOptions
{
    /// <summary>The address to listen on; ignored with <see cref="UnixSocketPath"/>. <see cref="IPAddress.IPv6Any"/> stands for
    /// all, IPv4 too.</summary>
    public IPAddress Address { get; init; } = IPAddress.IPv6Any;

    /// <summary>The TCP port; 0 lets the system choose.</summary>
    public int Port { get; init; } = MigrationEndpoint.DefaultPort;

    /// <summary>A UNIX socket to listen on instead: mode 0600, and only root and this user get through.</summary>
    public string? UnixSocketPath { get; init; }

    /// <summary>This host's certificate with its private key; required for TCP unless <see cref="InsecureLoopback"/>.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>SHA-256 fingerprints of the peers that are accepted.</summary>
    public IReadOnlyList<string> TrustedFingerprints { get; init; } = [];

    /// <summary>Listen without TLS and authentication; refused unless the address is a loopback address.</summary>
    public bool InsecureLoopback { get; init; }

    /// <summary>Limits and self-description of the connections.</summary>
    public ConnectionOptions Connection { get; init; } = new();

    /// <summary>How long a peer may take to authenticate and say hello. Default 10 s.</summary>
    public TimeSpan HandshakeTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>How many peers may be at that at once. Default 16. Where more come, the one that has taken longest is dropped.</summary>
    public int MaxHandshakes { get; init; } = 16;

    /// <summary>Told of each peer that did not get through: its address and why. Called from any thread; must not throw.</summary>
    public Action<string>? Rejected { get; init; }

    /// <summary>With as many handshakes under way as may be, one is dropped for a newcomer only when it has had this much time.</summary>
    internal TimeSpan HandshakeGrace { get; init; } = TimeSpan.FromSeconds(1);

    internal TimeProvider Time { get; init; } = TimeProvider.System;
}

/// <summary>Accepts connections of <see cref="PhaulConnector"/>.</summary>
public sealed class PhaulListener : IAsyncDisposable
{
    private const int Backlog = 128;

    private readonly ListenOptions _options;
    private readonly PinnedIdentity? _identity;
    private readonly Socket _socket;
    private readonly CancellationTokenSource _stop = new();
    private readonly Channel<PhaulConnection> _ready;
    private readonly LinkedList<Handshake> _handshakes = new();
    private TaskCompletionSource _handshakeEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task _accepting = Task.CompletedTask;
    private int _disposing;

    private PhaulListener(ListenOptions options, PinnedIdentity? identity, Socket socket)
    {
        _options = options;
        _identity = identity;
        _socket = socket;
        _ready = Channel.CreateBounded<PhaulConnection>(options.MaxHandshakes);
        LocalEndPoint = socket.LocalEndPoint!;
    }

    /// <summary>Where it listens, the real port included.</summary>
    public EndPoint LocalEndPoint { get; }

    /// <summary>The fingerprint that sources must pin; null without TLS.</summary>
    public string? Fingerprint => _identity?.Fingerprint;

    /// <summary>Begins to listen.</summary>
    /// <exception cref="PhaulException">InvalidRequest: the options cannot be right; ConnectionFailed: the address cannot be
    /// listened on.</exception>
    public static PhaulListener Start(ListenOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Connection.Check();
        if (options.MaxHandshakes < 1)
            throw new PhaulException(PhaulErrorId.InvalidRequest, "At least one handshake at a time must be allowed.");
        PinnedIdentity? identity = CheckIdentity(options);
        var listener = new PhaulListener(options, identity, options.UnixSocketPath is { } path ? ListenUnix(path) : ListenTcp(options));
        listener._accepting = Task.Run(listener.AcceptAllAsync, CancellationToken.None);
        return listener;
    }

    /// <summary>The next peer that got through its handshake.</summary>
    /// <returns>A connection that the caller disposes.</returns>
    /// <exception cref="ObjectDisposedException">The listener was disposed.</exception>
    public async Task<PhaulConnection> AcceptAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            while (true)
            {
                PhaulConnection connection = await _ready.Reader.ReadAsync(cancellationToken).ConfigureAwait(false);
                if (connection.Fault is null)
                    return connection;
                await connection.DisposeAsync().ConfigureAwait(false);
            }
        }
        catch (ChannelClosedException)
        {
            throw new ObjectDisposedException(nameof(PhaulListener));
        }
    }

    /// <summary>Stops listening. Connections that were accepted live on; those nobody took are closed.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposing, 1) != 0)
            return;
        await _stop.CancelAsync().ConfigureAwait(false);
        _socket.Dispose();
        await _accepting.ConfigureAwait(false);
        Task[] running;
        lock (_handshakes)
            running = [.. _handshakes.Select(handshake => handshake.Run)];
        await Task.WhenAll(running).ConfigureAwait(false);
        _ready.Writer.TryComplete();
        while (_ready.Reader.TryRead(out PhaulConnection? connection))
            await connection.DisposeAsync().ConfigureAwait(false);
        if (_options.UnixSocketPath is { } path)
            File.Delete(path);
        _stop.Dispose();
    }

    private static PinnedIdentity? CheckIdentity(ListenOptions options)
    {
        if (options.UnixSocketPath is not null)
            return null;
        if (options.Certificate is not null)
            return new PinnedIdentity(options.Certificate, options.TrustedFingerprints, options.Time);
        if (options.InsecureLoopback && TcpCarrier.IsLoopback(options.Address))
            return null;
        throw new PhaulException(
            PhaulErrorId.InvalidRequest,
            options.InsecureLoopback
                ? $"Without TLS only a loopback address may be listened on, and {options.Address} is none."
                : $"Listening on {options.Address} needs a certificate of this host.")
        {
            RecommendedAction = "Make one with phaul new-certificate. Without TLS only a UNIX socket or loopback can be used.",
        };
    }

    private static Socket ListenTcp(ListenOptions options)
    {
        var socket = new Socket(options.Address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (options.Address.Equals(IPAddress.IPv6Any))
                socket.DualMode = true;
            socket.Bind(new IPEndPoint(options.Address, options.Port));
            socket.Listen(Backlog);
            return socket;
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException)
        {
            socket.Dispose();
            throw CannotListen($"{options.Address}, port {options.Port}", exception);
        }
    }

    private static Socket ListenUnix(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            var end = new UnixDomainSocketEndPoint(path);
            if (UnixSocketFile.Exists(path))
                UnixSocketFile.RemoveStale(path);
            socket.Bind(end);
            // Nobody can connect before listen, so there is no moment at which the file is open to others.
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            socket.Listen(Backlog);
            return socket;
        }
        catch (Exception exception) when (exception is SocketException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            socket.Dispose();
            throw CannotListen(path, exception);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static PhaulException CannotListen(string where, Exception cause) =>
        new(PhaulErrorId.ConnectionFailed, $"{where} cannot be listened on: {cause.Message}.", cause);

    private async Task AcceptAllAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            try
            {
                await MakeRoomAsync().ConfigureAwait(false);
                Socket socket = await _socket.AcceptAsync(_stop.Token).ConfigureAwait(false);
                var handshake = new Handshake(_options.HandshakeTimeout, _stop.Token);
                lock (_handshakes)
                {
                    LinkedListNode<Handshake> node = _handshakes.AddLast(handshake);
                    handshake.Run = Task.Run(() => GreetAsync(socket, node), CancellationToken.None);
                }
            }
            catch (OperationCanceledException)
            {
                return;
            }
            catch (Exception exception) when (exception is SocketException or ObjectDisposedException)
            {
                if (_stop.IsCancellationRequested)
                    return;
                // Out of descriptors, perhaps: it passes, or it is seen in the reports.
                Report($"No connection could be accepted: {exception.Message}");
                await Task.Delay(TimeSpan.FromMilliseconds(200), CancellationToken.None).ConfigureAwait(false);
            }
        }
    }

    // Waits until fewer handshakes are under way than may be: until one ends, or the oldest has had its time of grace.
    private async Task MakeRoomAsync()
    {
        while (true)
        {
            Task ended;
            Handshake oldest;
            lock (_handshakes)
            {
                if (_handshakes.Count < _options.MaxHandshakes)
                    return;
                if (_handshakeEnded.Task.IsCompleted)
                    _handshakeEnded = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                ended = _handshakeEnded.Task;
                oldest = _handshakes.First!.Value;
            }

            TimeSpan grace = _options.HandshakeGrace - oldest.Age;
            if (grace <= TimeSpan.Zero)
            {
                oldest.Drop();
                await ended.WaitAsync(_stop.Token).ConfigureAwait(false);
                continue;
            }

            try
            {
                await ended.WaitAsync(grace, _stop.Token).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                // Now the oldest has had its time.
            }
        }
    }

    private async Task GreetAsync(Socket socket, LinkedListNode<Handshake> node)
    {
        Handshake handshake = node.Value;
        string name = _options.UnixSocketPath ?? "unknown";
        PhaulConnection? connection = null;
        try
        {
            if (_options.UnixSocketPath is null)
                name = Describe(socket.RemoteEndPoint);
            connection = await GreetAsync(socket, name, handshake.Token).ConfigureAwait(false);
            await _ready.Writer.WriteAsync(connection, handshake.Token).ConfigureAwait(false);
            connection = null;
        }
        catch (OperationCanceledException) when (!_stop.IsCancellationRequested)
        {
            Report(handshake.Dropped
                ? $"{name}: dropped during the handshake, because many others came."
                : connection is null
                    ? $"{name}: no handshake within {_options.HandshakeTimeout.TotalSeconds:0.#} s."
                    : $"{name}: nobody took the connection within {_options.HandshakeTimeout.TotalSeconds:0.#} s.");
        }
        catch (PhaulException exception)
        {
            Report($"{name}: {exception.Message}");
        }
        catch (Exception exception)
        {
            if (!_stop.IsCancellationRequested)
                Report($"{name}: {exception.Message}");
        }
        finally
        {
            if (connection is not null)
                await connection.DisposeAsync().ConfigureAwait(false);
            lock (_handshakes)
            {
                _handshakes.Remove(node);
                _handshakeEnded.TrySetResult();
            }

            handshake.Dispose();
        }
    }

    private async Task<PhaulConnection> GreetAsync(Socket socket, string name, CancellationToken cancellationToken)
    {
        var carrier = new CarrierStream(socket);
        try
        {
            Stream stream = carrier;
            var link = new Link(name);
            if (_options.UnixSocketPath is not null)
            {
                UnixPeer.Check(socket, name);
            }
            else
            {
                TcpCarrier.Configure(socket);
                if (_identity is null)
                    TcpCarrier.CheckLoopback(socket);
                else
                    (stream, link) = await TlsHandshake.AcceptAsync(carrier, _identity, name, cancellationToken).ConfigureAwait(false);
            }

            return await PhaulConnection.OpenAsync(carrier, stream, ConnectionRole.Responder, link, _options.Connection, cancellationToken)
                .ConfigureAwait(false);
        }
        catch
        {
            await carrier.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private static string Describe(EndPoint? end) => end switch
    {
        IPEndPoint { Address.IsIPv4MappedToIPv6: true } mapped => new IPEndPoint(mapped.Address.MapToIPv4(), mapped.Port).ToString(),
        null => "unknown",
        _ => end.ToString() ?? "unknown",
    };

    private void Report(string text)
    {
        try
        {
            _options.Rejected?.Invoke(text);
        }
        catch (Exception)
        {
            // An observer must not end the listener.
        }
    }

    /// <summary>One peer on its way through authentication and Hello.</summary>
    private sealed class Handshake : IDisposable
    {
        private readonly CancellationTokenSource _limit;
        private readonly long _start = TimeProvider.System.GetTimestamp();

        public Handshake(TimeSpan timeout, CancellationToken stop)
        {
            _limit = CancellationTokenSource.CreateLinkedTokenSource(stop);
            _limit.CancelAfter(timeout);
            Token = _limit.Token;
        }

        public CancellationToken Token { get; }

        public TimeSpan Age => TimeProvider.System.GetElapsedTime(_start);

        public bool Dropped { get; private set; }

        public Task Run { get; set; } = Task.CompletedTask;

        public void Drop()
        {
            Dropped = true;
            try
            {
                _limit.Cancel();
            }
            catch (ObjectDisposedException)
            {
                // It has just ended by itself.
            }
        }

        public void Dispose() => _limit.Dispose();
    }
}
