// A pooled buffer to send: room for the header in front of the payload, so that both leave in one write.

using System.Buffers;

namespace Phaul.Transport;

/// <summary>A buffer rented by <see cref="PhaulChannel.RentFrame"/>. Fill <see cref="Payload"/>, then send it, or dispose it.</summary>
public sealed class PooledFrame : IDisposable
{
    // Header and payload fill a power of two exactly: nothing of the pool's array is wasted, nor of TLS records.
    private const int BufferSize = FrameHeader.MaxDataLength;

    private byte[]? _buffer = ArrayPool<byte>.Shared.Rent(BufferSize);

    internal PooledFrame()
    {
    }

    /// <summary>The largest payload of a frame, in bytes.</summary>
    public static int Capacity => BufferSize - FrameHeader.Size;

    /// <summary>Where the payload goes, <see cref="Capacity"/> bytes.</summary>
    /// <exception cref="ObjectDisposedException">It was sent or disposed.</exception>
    public Memory<byte> Payload => Buffer.AsMemory(FrameHeader.Size, Capacity);

    private byte[] Buffer => _buffer ?? throw new ObjectDisposedException(nameof(PooledFrame));

    internal ReadOnlyMemory<byte> Seal(ChannelId channel, int length, FrameKind kind = FrameKind.Data)
    {
        new FrameHeader(channel, kind, length).Write(Buffer);
        return Buffer.AsMemory(0, FrameHeader.Size + length);
    }

    /// <summary>Gives the buffer back.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _buffer, null) is { } buffer)
            ArrayPool<byte>.Shared.Return(buffer);
    }
}
