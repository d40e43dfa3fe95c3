// One data channel: frames out against credit, frames in through a queue that the credit bounds.

using System.Buffers;
using System.Diagnostics;
using System.Threading.Channels;

namespace Phaul.Transport;

/// <summary>
/// A channel for bulk data in both directions. What is sent forms sequences: frames, then an end; then perhaps the next
/// sequence. One send and one receive may be under way at a time.
/// </summary>
public sealed class PhaulChannel
{
    private readonly PhaulConnection _connection;
    private readonly int _receiveWindow;
    private readonly int _sendWindow;
    private readonly Channel<ReceivedFrame> _received =
        Channel.CreateUnbounded<ReceivedFrame>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

    private readonly object _creditSync = new();
    private int _credit;
    private TaskCompletionSource? _creditArrived;

    private int _unconsumed;
    private int _ungranted;
    private int _sending;
    private long _bytesSent;
    private long _bytesReceived;

    internal PhaulChannel(PhaulConnection connection, ChannelId id, int receiveWindow, int sendWindow)
    {
        _connection = connection;
        Id = id;
        _receiveWindow = receiveWindow;
        _sendWindow = sendWindow;
        _credit = sendWindow;
    }

    /// <summary>Which channel this is.</summary>
    public ChannelId Id { get; }

    /// <summary>Payload bytes sent.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    /// <summary>Payload bytes received, taken by the consumer or not.</summary>
    public long BytesReceived => Interlocked.Read(ref _bytesReceived);

    /// <summary>Packs what is sent; null: nothing is packed.</summary>
    internal FramePacker? Packer { get; set; }

    /// <summary>Limits what is sent, as it is on the wire; null: nothing does.</summary>
    internal BandwidthLimit? Limit { get; set; }

    /// <summary>A buffer to fill and <see cref="SendAsync(PooledFrame, int, CancellationToken)"/>.</summary>
    public PooledFrame RentFrame() => new();

    /// <summary>Sends the first bytes of a frame's payload. The frame is disposed, whatever happens.</summary>
    /// <param name="frame">From <see cref="RentFrame"/>.</param>
    /// <param name="length">1 to <see cref="PooledFrame.Capacity"/>.</param>
    /// <param name="cancellationToken">Gives up waiting for the turn or for credit; a write that has begun is completed.</param>
    /// <exception cref="PhaulException">The connection's <see cref="PhaulConnection.Fault"/>.</exception>
    public async ValueTask SendAsync(PooledFrame frame, int length, CancellationToken cancellationToken = default)
    {
        using (frame)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(length, 1);
            ArgumentOutOfRangeException.ThrowIfGreaterThan(length, PooledFrame.Capacity);
            if (Packer is not { } packer)
            {
                await SendAsync(frame.Seal(Id, length), length, cancellationToken).ConfigureAwait(false);
                return;
            }

            using PooledFrame packed = RentFrame();
            long began = Stopwatch.GetTimestamp();
            int packedLength = packer.TryPack(frame.Payload.Span[..length], packed.Payload.Span);
            await (packedLength > 0
                ? SendAsync(packed.Seal(Id, packedLength, FrameKind.Packed), packedLength, cancellationToken)
                : SendAsync(frame.Seal(Id, length), length, cancellationToken)).ConfigureAwait(false);
            packer.Sent(length, Stopwatch.GetElapsedTime(began));
        }
    }

    /// <summary>Ends a sequence: the peer's <see cref="ReceiveAsync"/> gives a frame with <see cref="ReceivedFrame.IsEnd"/>.</summary>
    /// <exception cref="PhaulException">The connection's <see cref="PhaulConnection.Fault"/>.</exception>
    public async ValueTask SendEndAsync(CancellationToken cancellationToken = default)
    {
        var bytes = new byte[FrameHeader.Size];
        new FrameHeader(Id, FrameKind.End, 0).Write(bytes);
        await SendAsync(bytes, 0, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>The next frame. What arrived before the connection ended is still given out.</summary>
    /// <exception cref="PhaulException">The connection's <see cref="PhaulConnection.Fault"/>.</exception>
    public async ValueTask<ReceivedFrame> ReceiveAsync(CancellationToken cancellationToken = default)
    {
        try
        {
            var frame = await _received.Reader.ReadAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                frame.Unpack();
                return frame;
            }
            catch
            {
                frame.Dispose();
                throw;
            }
        }
        catch (ChannelClosedException)
        {
            throw _connection.FaultToThrow();
        }
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, int length, CancellationToken cancellationToken)
    {
        if (Interlocked.Exchange(ref _sending, 1) != 0)
            throw new InvalidOperationException($"Two sends on the {Id} channel at once: their order would be left to chance.");
        try
        {
            if (Limit is not null)
                await Limit.TakeAsync(length, cancellationToken).ConfigureAwait(false);
            await SpendAsync(length + FrameHeader.CreditOverhead, cancellationToken).ConfigureAwait(false);
            await _connection.WriteAsync(bytes, urgent: false, cancellationToken).ConfigureAwait(false);
            Interlocked.Add(ref _bytesSent, length);
        }
        finally
        {
            Volatile.Write(ref _sending, 0);
        }
    }

    // Data waits here before it goes out: for the peer's credit.
    private async ValueTask SpendAsync(int cost, CancellationToken cancellationToken)
    {
        while (true)
        {
            TaskCompletionSource arrived;
            lock (_creditSync)
            {
                if (_connection.HasEnded)
                    throw _connection.FaultToThrow();
                if (_credit >= cost)
                {
                    _credit -= cost;
                    return;
                }

                arrived = _creditArrived ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }

            await arrived.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Called by the reader: a frame is about to arrive.</summary>
    internal void OnArriving(int length)
    {
        int cost = length + FrameHeader.CreditOverhead;
        if (Interlocked.Add(ref _unconsumed, cost) > _receiveWindow)
            throw FrameHeader.Violation($"more on channel {Id} than its window of {_receiveWindow} bytes allows");
    }

    /// <summary>Called by the reader: a frame has arrived. The buffer is the queue's from here on.</summary>
    internal void OnArrived(byte[] buffer, int length, bool isPacked)
    {
        Interlocked.Add(ref _bytesReceived, length);
        var frame = new ReceivedFrame(this, buffer, length, isPacked);
        if (!_received.Writer.TryWrite(frame))
            frame.Dispose();
    }

    /// <summary>Called by the reader: the peer grants credit.</summary>
    internal void OnCredit(uint granted)
    {
        TaskCompletionSource? arrived;
        lock (_creditSync)
        {
            if (granted == 0 || granted > (uint)(_sendWindow - _credit))
                throw FrameHeader.Violation($"a credit of {granted} bytes on channel {Id}, where {_sendWindow - _credit} could be due");
            _credit += (int)granted;
            (arrived, _creditArrived) = (_creditArrived, null);
        }

        arrived?.TrySetResult();
    }

    /// <summary>Called when a consumer is done with a frame.</summary>
    internal void OnConsumed(int cost)
    {
        // Granting in quarters of the window keeps the grants few, and the sender always has room for a frame.
        if (Interlocked.Add(ref _ungranted, cost) >= _receiveWindow / 4)
            _connection.RequestHousekeeping();
    }

    /// <summary>What can be granted now; 0 if it is not worth a frame.</summary>
    internal int TakeGrant()
    {
        if (Volatile.Read(ref _ungranted) < _receiveWindow / 4)
            return 0;
        int grant = Interlocked.Exchange(ref _ungranted, 0);
        Interlocked.Add(ref _unconsumed, -grant);
        return grant;
    }

    /// <summary>The connection has ended. What has arrived can still be taken.</summary>
    internal void End()
    {
        _received.Writer.TryComplete();
        TaskCompletionSource? arrived;
        lock (_creditSync)
            (arrived, _creditArrived) = (_creditArrived, null);
        arrived?.TrySetResult();
    }

    /// <summary>Nobody will take what has arrived.</summary>
    internal void Drop()
    {
        while (_received.Reader.TryRead(out ReceivedFrame? frame))
            frame.Dispose();
    }

    internal static byte[] RentForReceiving(int length) => length == 0 ? [] : ArrayPool<byte>.Shared.Rent(length);
}
