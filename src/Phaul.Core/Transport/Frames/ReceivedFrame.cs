// A received frame in a pooled buffer. Disposing it gives the sender new credit.

using System.Buffers;

namespace Phaul.Transport;

/// <summary>What arrived on a data channel. Dispose it when its bytes are used: only then may the peer send more.</summary>
public sealed class ReceivedFrame : IDisposable
{
    private readonly PhaulChannel _channel;
    private readonly int _onWire;
    private int _length;
    private bool _isPacked;
    private byte[]? _buffer;

    internal ReceivedFrame(PhaulChannel channel, byte[] buffer, int length, bool isPacked)
    {
        _channel = channel;
        _buffer = buffer;
        _length = _onWire = length;
        _isPacked = isPacked;
    }

    /// <summary>True at the end of a sequence; there is no payload then.</summary>
    public bool IsEnd => _length == 0;

    /// <summary>The bytes; empty at the end of a sequence.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public ReadOnlyMemory<byte> Payload =>
        (_buffer ?? throw new ObjectDisposedException(nameof(ReceivedFrame))).AsMemory(0, _length);

    internal int Cost => _onWire + FrameHeader.CreditOverhead;

    /// <summary>By whoever takes it, who has more time than the reader.</summary>
    /// <exception cref="PhaulException">ProtocolError: it cannot be unpacked.</exception>
    internal void Unpack()
    {
        if (!_isPacked || _buffer is not { } packed)
            return;
        var length = Lz4Block.LengthOf(packed);
        var buffer = ArrayPool<byte>.Shared.Rent(length);
        Lz4Block.Unpack(packed.AsSpan(0, _onWire), buffer.AsSpan(0, length));
        (_buffer, _length, _isPacked) = (buffer, length, false);
        ArrayPool<byte>.Shared.Return(packed);
    }

    /// <summary>Gives the buffer back and the sender credit for as much.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _buffer, null) is not { } buffer)
            return;
        if (buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(buffer);
        _channel.OnConsumed(Cost);
    }
}
