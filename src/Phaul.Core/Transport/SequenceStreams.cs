// One sequence of a channel seen as a run of bytes: written into frames that are filled up, read across frame boundaries.

namespace Phaul.Transport;

/// <summary>Fills frames and sends each when it is full. <see cref="EndAsync"/> sends the rest and the end.</summary>
internal sealed class SequenceWriter(PhaulChannel channel) : IDisposable
{
    private PooledFrame? _frame;
    private int _length;

    /// <summary>Room for at least one byte; <see cref="Advance"/> says how much of it was used.</summary>
    public async ValueTask<Memory<byte>> GetSpaceAsync(CancellationToken cancellationToken)
    {
        if (_length == PooledFrame.Capacity)
            await SendAsync(cancellationToken).ConfigureAwait(false);
        _frame ??= channel.RentFrame();
        return _frame.Payload[_length..];
    }

    public void Advance(int count) => _length += count;

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            Memory<byte> space = await GetSpaceAsync(cancellationToken).ConfigureAwait(false);
            int count = Math.Min(space.Length, bytes.Length);
            bytes[..count].CopyTo(space);
            Advance(count);
            bytes = bytes[count..];
        }
    }

    /// <summary>Sends what there is, and does not wait for the frame to be full.</summary>
    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        if (_length > 0)
            await SendAsync(cancellationToken).ConfigureAwait(false);
    }

    public async ValueTask EndAsync(CancellationToken cancellationToken)
    {
        await FlushAsync(cancellationToken).ConfigureAwait(false);
        await channel.SendEndAsync(cancellationToken).ConfigureAwait(false);
    }

    public void Dispose() => _frame?.Dispose();

    private async ValueTask SendAsync(CancellationToken cancellationToken)
    {
        (PooledFrame frame, int length) = (_frame!, _length);
        (_frame, _length) = (null, 0);
        await channel.SendAsync(frame, length, cancellationToken).ConfigureAwait(false);
    }
}

/// <summary>Takes the bytes of a sequence in the portions in which they are wanted.</summary>
internal sealed class SequenceReader(PhaulChannel channel) : IDisposable
{
    private ReceivedFrame? _frame;
    private int _offset;
    private bool _ended;

    /// <summary>Called before bytes that were given out cease to be valid.</summary>
    public Action? Releasing { get; init; }

    /// <summary>What is at hand, at most a certain number of bytes; empty at the end of the sequence. Valid until the next call,
    /// with <see cref="Releasing"/> until that is called.</summary>
    public async ValueTask<ReadOnlyMemory<byte>> ReadSomeAsync(long atMost, CancellationToken cancellationToken)
    {
        if (_ended)
            return default;
        while (_frame is null || _offset == _frame.Payload.Length)
        {
            Releasing?.Invoke();
            _frame?.Dispose();
            _frame = null;
            ReceivedFrame next = await channel.ReceiveAsync(cancellationToken).ConfigureAwait(false);
            if (next.IsEnd)
            {
                next.Dispose();
                _ended = true;
                return default;
            }

            (_frame, _offset) = (next, 0);
        }

        ReadOnlyMemory<byte> rest = _frame.Payload[_offset..];
        ReadOnlyMemory<byte> some = rest[..(int)Math.Min(rest.Length, atMost)];
        _offset += some.Length;
        return some;
    }

    /// <summary>Fills a buffer. False if the sequence ends first.</summary>
    public async ValueTask<bool> ReadExactlyAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        while (buffer.Length > 0)
        {
            ReadOnlyMemory<byte> some = await ReadSomeAsync(buffer.Length, cancellationToken).ConfigureAwait(false);
            if (some.IsEmpty)
                return false;
            some.CopyTo(buffer);
            buffer = buffer[some.Length..];
        }

        return true;
    }

    public void Dispose() => _frame?.Dispose();
}
