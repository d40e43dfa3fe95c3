// One authenticated connection between two hosts: frames of several channels over one byte stream.
// Three loops: the reader, which never waits for a consumer; the housekeeper, which sends what the connection itself has to
// say; the watch, which finds out when the peer is gone.

using System.Buffers;
using System.Buffers.Binary;
using System.Net.Security;
using System.Text;
using System.Threading.Channels;
using Google.Protobuf;

namespace Phaul.Transport;

/// <summary>Which side speaks first.</summary>
public enum ConnectionRole
{
    /// <summary>Sends Hello: the side that connected.</summary>
    Initiator,

    /// <summary>Answers Hello: the side that listened.</summary>
    Responder,
}

/// <summary>A connection after its handshake. Dispose it to end it in good order.</summary>
public sealed class PhaulConnection : IAsyncDisposable
{
    private const int MaxQueuedControl = 64;
    private const int MaxQueuedControlBytes = 8 << 20;

    // The watch looks so often within a peer time-out. Silence is counted in looks, not by the clock: a machine that itself
    // stood still does not blame its peer.
    private const int LooksPerTimeout = 12;

    private static readonly TimeSpan GoodbyeTime = TimeSpan.FromSeconds(2);

    private readonly CarrierStream _carrier;
    private readonly Stream _stream;
    private readonly ConnectionOptions _options;
    private readonly TimeSpan _peersTimeout;
    private readonly WriteGate _gate = new();
    private readonly PhaulChannel[] _channels;
    private readonly Channel<byte[]> _control = Channel.CreateUnbounded<byte[]>(new UnboundedChannelOptions { SingleWriter = true });
    private readonly Channel<bool> _housekeeping =
        Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite, SingleReader = true });

    private readonly CancellationTokenSource _abort = new();
    private readonly CancellationTokenSource _closed = new();
    private readonly object _faultSync = new();
    private readonly TaskCompletionSource _disposed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private Task _reader = Task.CompletedTask;
    private Task _housekeeper = Task.CompletedTask;
    private Task _watch = Task.CompletedTask;
    private PhaulException? _fault;
    private int _disposing;
    private int _writing;
    private int _queuedControlBytes;
    private long _bytesSent;
    private long _bytesReceived;
    private byte[]? _pongDue;
    private bool _pingDue;

    private PhaulConnection(CarrierStream carrier, Stream stream, ConnectionOptions options, HelloExchange.Outcome outcome)
    {
        _carrier = carrier;
        _stream = stream;
        _options = options;
        _peersTimeout = outcome.PeerTimeout;
        Peer = outcome.Peer;
        Closed = _closed.Token;
        _channels =
        [
            new PhaulChannel(this, ChannelId.Pages, options.Window, outcome.Window),
            new PhaulChannel(this, ChannelId.Images, options.Window, outcome.Window),
            new PhaulChannel(this, ChannelId.Files, options.Window, outcome.Window),
        ];
    }

    /// <summary>Who is on the other side.</summary>
    public PeerInfo Peer { get; }

    /// <summary>Cancelled when the connection has ended, for whatever reason.</summary>
    public CancellationToken Closed { get; }

    /// <summary>Why the connection ended; null while it lives.</summary>
    public PhaulException? Fault => Volatile.Read(ref _fault);

    /// <summary>True if the peer ended the connection in good order, as opposed to a lost link.</summary>
    public bool ClosedByPeer { get; private set; }

    /// <summary>Bytes sent, framing included, before encryption.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    /// <summary>Bytes received, framing included, after decryption.</summary>
    public long BytesReceived => Interlocked.Read(ref _bytesReceived);

    internal bool HasEnded => Fault is not null;

    /// <summary>Whether records of Phaul's own carry what TLS agreed on.</summary>
    internal bool IsSealed => _stream is SealedStream;

    /// <summary>
    /// Opens a connection over a duplex stream that somebody else has authenticated (the standard streams of ssh, for instance).
    /// </summary>
    /// <param name="stream">Owned by the connection from here on, also when this fails.</param>
    /// <param name="role">Which side speaks first; the other side needs the other role.</param>
    /// <param name="peerName">The peer, for people.</param>
    /// <param name="options">Limits and self-description; null for the defaults.</param>
    /// <param name="cancellationToken">Ends the handshake.</param>
    /// <exception cref="PhaulException">ProtocolError, AuthenticationFailed or ConnectionLost.</exception>
    public static Task<PhaulConnection> OpenAsync(
        Stream stream,
        ConnectionRole role,
        string peerName,
        ConnectionOptions? options = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var carrier = new CarrierStream(stream);
        return OpenAsync(carrier, carrier, role, new Link(peerName), options ?? new ConnectionOptions(), cancellationToken);
    }

    internal static async Task<PhaulConnection> OpenAsync(
        CarrierStream carrier,
        Stream stream,
        ConnectionRole role,
        Link link,
        ConnectionOptions options,
        CancellationToken cancellationToken)
    {
        try
        {
            options.Check();
            carrier.Gathers = true;
            HelloExchange.Outcome outcome = role == ConnectionRole.Initiator
                ? await HelloExchange.InitiateAsync(stream, link, options, cancellationToken).ConfigureAwait(false)
                : await HelloExchange.AnswerAsync(stream, link, options, cancellationToken).ConfigureAwait(false);
            if (outcome.Secret is { } secret)
            {
                SealedStream records = await SealedStream.OpenAsync(carrier, role, secret, cancellationToken).ConfigureAwait(false);
                await stream.DisposeAsync().ConfigureAwait(false);
                stream = records;
            }

            var connection = new PhaulConnection(carrier, stream, options, outcome);
            connection._reader = Task.Run(connection.ReadAsync, CancellationToken.None);
            connection._housekeeper = Task.Run(connection.KeepHouseAsync, CancellationToken.None);
            connection._watch = Task.Run(connection.WatchAsync, CancellationToken.None);
            return connection;
        }
        catch
        {
            await DisposeStreamsAsync(carrier, stream).ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>The data channel of that name, the same object each time.</summary>
    public PhaulChannel OpenChannel(ChannelId id) => id is >= ChannelId.Pages and <= ChannelId.Files
        ? _channels[(int)id - 1]
        : throw new ArgumentOutOfRangeException(nameof(id), id, "Not a data channel.");

    /// <summary>Sends a message on the control channel, ahead of data that waits.</summary>
    /// <param name="message">At most 1 MiB.</param>
    /// <param name="cancellationToken">Gives up waiting for the turn; a write that has begun is completed.</param>
    /// <exception cref="PhaulException"><see cref="Fault"/>, or ProtocolError: the message is too large.</exception>
    public async Task SendControlAsync(IMessage message, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(message);
        int length = message.CalculateSize();
        if (length > FrameHeader.MaxControlLength)
            throw new PhaulException(
                PhaulErrorId.ProtocolError, $"A control message of {length} bytes is larger than {FrameHeader.MaxControlLength}.");
        byte[] buffer = ArrayPool<byte>.Shared.Rent(FrameHeader.Size + length);
        try
        {
            new FrameHeader(ChannelId.Control, FrameKind.Data, length).Write(buffer);
            message.WriteTo(buffer.AsSpan(FrameHeader.Size, length));
            await WriteAsync(buffer.AsMemory(0, FrameHeader.Size + length), urgent: true, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>The next message on the control channel, in order. What arrived before the connection ended is still given out.</summary>
    /// <exception cref="PhaulException"><see cref="Fault"/>, or ProtocolError: not such a message; the connection has then
    /// ended.</exception>
    public async Task<T> ReceiveControlAsync<T>(MessageParser<T> parser, CancellationToken cancellationToken = default)
        where T : IMessage<T>
    {
        ArgumentNullException.ThrowIfNull(parser);
        byte[] bytes;
        try
        {
            bytes = await _control.Reader.ReadAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (ChannelClosedException)
        {
            throw FaultToThrow();
        }

        Interlocked.Add(ref _queuedControlBytes, -bytes.Length);
        try
        {
            return parser.ParseFrom(bytes);
        }
        catch (InvalidProtocolBufferException exception)
        {
            Fail(new PhaulException(
                PhaulErrorId.ProtocolError, $"{Peer} sent a control message that cannot be read.", exception)
            { Host = Peer.HostName });
            throw FaultToThrow();
        }
    }

    /// <summary>Says goodbye if the connection lives (2 s at most) and ends it. Pending operations fail.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposing, 1) != 0)
        {
            await _disposed.Task.ConfigureAwait(false);
            return;
        }

        try
        {
            if (!HasEnded)
                await SayGoodbyeAsync().ConfigureAwait(false);
            Fail(new PhaulException(
                PhaulErrorId.ConnectionLost, $"The connection to {Peer} was closed by this side.")
            { Host = Peer.HostName });
            await Task.WhenAll(_reader, _housekeeper, _watch, _gate.Idle).ConfigureAwait(false);
            await DisposeStreamsAsync(_carrier, _stream).ConfigureAwait(false);
            foreach (PhaulChannel channel in _channels)
                channel.Drop();
        }
        finally
        {
            _disposed.TrySetResult();
        }
    }

    /// <summary>A new exception with the fault's words, so that no two threads throw the same object.</summary>
    internal PhaulException FaultToThrow()
    {
        PhaulException fault = Fault ?? new PhaulException(PhaulErrorId.InternalError, "The connection has ended without a reason.");
        return new PhaulException(fault.ErrorId, fault.Message, fault) { Host = fault.Host, RecommendedAction = fault.RecommendedAction };
    }

    internal void RequestHousekeeping() => _housekeeping.Writer.TryWrite(true);

    /// <summary>Writes one or more whole frames. A write that has begun cannot be cancelled: half a frame would be the end of
    /// the connection.</summary>
    internal async ValueTask WriteAsync(ReadOnlyMemory<byte> frames, bool urgent, CancellationToken cancellationToken)
    {
        if (HasEnded)
            throw FaultToThrow();
        try
        {
            await _gate.EnterAsync(urgent, cancellationToken).ConfigureAwait(false);
        }
        catch (PhaulException) when (HasEnded)
        {
            throw FaultToThrow();
        }

        try
        {
            if (HasEnded)
                throw FaultToThrow();
            Volatile.Write(ref _writing, 1);
            await _stream.WriteAsync(frames, _abort.Token).ConfigureAwait(false);
            await _stream.FlushAsync(_abort.Token).ConfigureAwait(false);
            Interlocked.Add(ref _bytesSent, frames.Length);
        }
        catch (Exception exception) when (exception is not PhaulException)
        {
            Fail(Lost($"The connection to {Peer} broke while sending: {exception.Message}", exception));
            throw FaultToThrow();
        }
        finally
        {
            Volatile.Write(ref _writing, 0);
            _gate.Exit();
        }
    }

    private static async Task DisposeStreamsAsync(CarrierStream carrier, Stream stream)
    {
        if (!ReferenceEquals(carrier, stream))
            await stream.DisposeAsync().ConfigureAwait(false);
        await carrier.DisposeAsync().ConfigureAwait(false);
    }

    private async Task ReadAsync()
    {
        var header = new byte[FrameHeader.Size];
        try
        {
            while (true)
            {
                int count = await _stream.ReadAtLeastAsync(header, header.Length, throwOnEndOfStream: false, _abort.Token)
                    .ConfigureAwait(false);
                if (count < header.Length)
                    throw Lost($"{Peer} closed the connection without saying goodbye.");
                FrameHeader frame = FrameHeader.Parse(header);
                Interlocked.Add(ref _bytesReceived, FrameHeader.Size + frame.Length);
                if (frame.Channel != ChannelId.Control && frame.Kind is FrameKind.Data or FrameKind.Packed or FrameKind.End)
                    await ReadDataAsync(frame).ConfigureAwait(false);
                else if (await ReadControlAsync(frame).ConfigureAwait(false))
                    return;
            }
        }
        catch (PhaulException exception)
        {
            Fail(exception.Host is null && exception.ErrorId == PhaulErrorId.ProtocolError
                ? new PhaulException(exception.ErrorId, $"{exception.Message} ({Peer})", exception) { Host = Peer.HostName }
                : exception);
        }
        catch (EndOfStreamException exception)
        {
            Fail(Lost($"{Peer} closed the connection in the middle of a frame.", exception));
        }
        catch (Exception exception)
        {
            Fail(Lost($"The connection to {Peer} broke: {exception.Message}", exception));
        }
        finally
        {
            // The peer shall not wait for our owner to dispose us. After a goodbye it sees a proper end, where the carrier has one.
            if (!ClosedByPeer || !_carrier.ShutdownSend())
                _carrier.Abort();
        }
    }

    private async ValueTask ReadDataAsync(FrameHeader frame)
    {
        PhaulChannel channel = _channels[(int)frame.Channel - 1];
        channel.OnArriving(frame.Length);
        byte[] buffer = PhaulChannel.RentForReceiving(frame.Length);
        await _stream.ReadExactlyAsync(buffer.AsMemory(0, frame.Length), _abort.Token).ConfigureAwait(false);
        channel.OnArrived(buffer, frame.Length, frame.Kind == FrameKind.Packed);
    }

    // True when the peer has said goodbye: nothing comes after that.
    private async ValueTask<bool> ReadControlAsync(FrameHeader frame)
    {
        var payload = new byte[frame.Length];
        await _stream.ReadExactlyAsync(payload, _abort.Token).ConfigureAwait(false);
        switch (frame.Kind)
        {
            case FrameKind.Data:
                int queued = Interlocked.Add(ref _queuedControlBytes, payload.Length);
                if (queued > MaxQueuedControlBytes || _control.Reader.Count >= MaxQueuedControl)
                    throw FrameHeader.Violation($"over {MaxQueuedControl} control messages or {MaxQueuedControlBytes} bytes of them unasked");
                _control.Writer.TryWrite(payload);
                return false;
            case FrameKind.Credit:
                _channels[(int)frame.Channel - 1].OnCredit(BinaryPrimitives.ReadUInt32LittleEndian(payload));
                return false;
            case FrameKind.Ping:
                // Only the latest ping is answered: a flood of them costs the peer more than us.
                Volatile.Write(ref _pongDue, payload);
                RequestHousekeeping();
                return false;
            case FrameKind.Pong:
                return false;
            case FrameKind.Bye:
                ClosedByPeer = true;
                string reason = HelloExchange.Printable(Encoding.UTF8.GetString(payload), FrameHeader.MaxByeLength);
                Fail(Lost($"{Peer} ended the connection{(reason.Length > 0 ? ": " + reason : "")}."));
                return true;
            default:
                throw FrameHeader.Violation($"a frame of kind {frame.Kind} after the handshake");
        }
    }

    // Grants, pongs and pings: collected, and sent together when the stream is free.
    private async Task KeepHouseAsync()
    {
        var buffer = new byte[(3 * (FrameHeader.Size + FrameHeader.CreditLength)) + (2 * (FrameHeader.Size + FrameHeader.PingLength))];
        try
        {
            while (await _housekeeping.Reader.WaitToReadAsync(_abort.Token).ConfigureAwait(false))
            {
                _housekeeping.Reader.TryRead(out _);
                int length = Collect(buffer);
                if (length > 0)
                    await WriteAsync(buffer.AsMemory(0, length), urgent: true, CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (Exception exception) when (HasEnded && exception is PhaulException or OperationCanceledException)
        {
            // The connection has ended, and its fault says why.
        }
    }

    private int Collect(Span<byte> buffer)
    {
        int length = 0;
        foreach (PhaulChannel channel in _channels)
        {
            if (channel.TakeGrant() is not (> 0 and int grant))
                continue;
            new FrameHeader(channel.Id, FrameKind.Credit, FrameHeader.CreditLength).Write(buffer[length..]);
            BinaryPrimitives.WriteInt32LittleEndian(buffer[(length + FrameHeader.Size)..], grant);
            length += FrameHeader.Size + FrameHeader.CreditLength;
        }

        if (Interlocked.Exchange(ref _pongDue, null) is { } pong)
        {
            new FrameHeader(ChannelId.Control, FrameKind.Pong, FrameHeader.PingLength).Write(buffer[length..]);
            pong.CopyTo(buffer[(length + FrameHeader.Size)..]);
            length += FrameHeader.Size + FrameHeader.PingLength;
        }

        if (Volatile.Read(ref _pingDue))
        {
            Volatile.Write(ref _pingDue, false);
            new FrameHeader(ChannelId.Control, FrameKind.Ping, FrameHeader.PingLength).Write(buffer[length..]);
            BinaryPrimitives.WriteInt64LittleEndian(buffer[(length + FrameHeader.Size)..], Environment.TickCount64);
            length += FrameHeader.Size + FrameHeader.PingLength;
        }

        return length;
    }

    private async Task WatchAsync()
    {
        TimeSpan own = _options.PeerTimeout;
        TimeSpan look = (own < _peersTimeout ? own : _peersTimeout) / LooksPerTimeout;
        long looksUntilLost = (long)Math.Ceiling(own / look);
        const int LooksUntilPing = LooksPerTimeout / 3;
        long reads = 0, writes = 0, silent = 0, stuck = 0, unsaid = 0;
        using var timer = new PeriodicTimer(look < TimeSpan.FromMilliseconds(1) ? TimeSpan.FromMilliseconds(1) : look);
        try
        {
            while (await timer.WaitForNextTickAsync(_abort.Token).ConfigureAwait(false))
            {
                (silent, reads) = _carrier.Reads == reads ? (silent + 1, reads) : (0, _carrier.Reads);
                bool wrote = _carrier.Writes != writes;
                writes = _carrier.Writes;
                unsaid = wrote ? 0 : unsaid + 1;
                stuck = wrote || Volatile.Read(ref _writing) == 0 ? 0 : stuck + 1;
                if (silent >= looksUntilLost)
                {
                    Fail(Lost($"{Peer} has been silent for {Seconds(silent * look)}."));
                    return;
                }

                if (stuck >= looksUntilLost)
                {
                    Fail(Lost($"{Peer} has taken nothing of what was sent for {Seconds(stuck * look)}."));
                    return;
                }

                // One ping serves both: it asks for a sign of life and is one.
                if ((silent > 0 && silent % LooksUntilPing == 0) || (unsaid > 0 && unsaid % LooksUntilPing == 0))
                {
                    Volatile.Write(ref _pingDue, true);
                    RequestHousekeeping();
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The connection has ended.
        }
    }

    private static string Seconds(TimeSpan time) => time.TotalSeconds >= 10 ? $"{time.TotalSeconds:0} s" : $"{time.TotalSeconds:0.0} s";

    private async Task SayGoodbyeAsync()
    {
        using var limit = new CancellationTokenSource(GoodbyeTime);
        var bye = new byte[FrameHeader.Size];
        new FrameHeader(ChannelId.Control, FrameKind.Bye, 0).Write(bye);
        try
        {
            await WriteAsync(bye, urgent: true, limit.Token).AsTask().WaitAsync(limit.Token).ConfigureAwait(false);
            if (_stream is SslStream tls)
            {
                await tls.ShutdownAsync().WaitAsync(limit.Token).ConfigureAwait(false);
                await _carrier.FlushAsync(limit.Token).ConfigureAwait(false);
            }

            _carrier.ShutdownSend();
            // Closing while the peer's bytes are still arriving would reset the connection under our last words.
            await _reader.WaitAsync(limit.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException or IOException
            or ObjectDisposedException or InvalidOperationException)
        {
            // The peer is gone or does not listen: it will find the link closed.
        }
    }

    private PhaulException Lost(string message, Exception? cause = null) =>
        new(PhaulErrorId.ConnectionLost, message, cause) { Host = Peer.HostName };

    // The one place where the connection ends. The first reason counts.
    private void Fail(PhaulException reason)
    {
        lock (_faultSync)
        {
            if (_fault is not null)
                return;
            Volatile.Write(ref _fault, reason);
        }

        _abort.Cancel();
        _gate.Close(reason);
        _control.Writer.TryComplete();
        _housekeeping.Writer.TryComplete();
        foreach (PhaulChannel channel in _channels)
            channel.End();
        try
        {
            _closed.Cancel();
        }
        catch (AggregateException)
        {
            // A callback of a user's failed; it is not the connection's business.
        }
    }
}
