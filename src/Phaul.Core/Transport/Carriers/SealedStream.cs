// What TLS 1.3 has agreed on, carried in records of a whole frame instead of 16 KiB: AES-256-GCM, one key a direction, both
// keys from secrets that only the two ends of the TLS session know. docs/protocol.md has the format.
//
// Why: .NET's TLS copies what it carries five times and makes a system call's worth of work of every 16 KiB. Measured on the
// page path, that was half of all CPU time, while the program is frozen.

using System.Buffers.Binary;
using System.Security.Cryptography;

namespace Phaul.Transport;

/// <summary>The stream above the carrier once a TLS session has authenticated both ends and given them a secret.</summary>
internal sealed class SealedStream : Stream
{
    /// <summary>Bytes that each side contributes to the secret.</summary>
    public const int ContributionSize = 32;

    private const int LengthSize = sizeof(uint);
    private const int TagSize = 16;
    private const int NonceSize = 12;
    private const int MaxRecord = FrameHeader.MaxDataLength;
    private const int Overhead = LengthSize + TagSize;

    // A longer write is a frame: its header gets a record of its own, so that the reader, knowing what comes, has the payload
    // decrypted to where it stays.
    private const int LongWrite = 4096;

    // The receiving buffer takes several records, so that what is left of the last one is seldom moved.
    private const int ReceiveSize = 4 * MaxRecord;

    // Far below what AES-GCM can bear with one key: 2^32 records are a pebibyte.
    private const ulong MaxRecords = 1UL << 32;

    private readonly CarrierStream _carrier;
    private readonly AesGcm _sealing;
    private readonly AesGcm _opening;
    private readonly byte[] _sent = GC.AllocateUninitializedArray<byte>(MaxRecord + FrameHeader.Size + (2 * Overhead));
    private readonly byte[] _received = GC.AllocateUninitializedArray<byte>(ReceiveSize);
    private byte[] _opened = [];
    private int _openedOffset;
    private int _receivedOffset;
    private int _receivedEnd;
    private ulong _recordsSent;
    private ulong _recordsReceived;

    private SealedStream(CarrierStream carrier, byte[] sealKey, byte[] openKey)
    {
        _carrier = carrier;
        _sealing = new AesGcm(sealKey, TagSize);
        _opening = new AesGcm(openKey, TagSize);
    }

    /// <summary>Whether this machine can.</summary>
    public static bool IsSupported => AesGcm.IsSupported;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    /// <summary>
    /// Takes over the carrier from TLS. The initiator's first record tells the responder that nothing more comes through TLS,
    /// and that both have the same keys; until then the responder sends nothing, for the initiator's TLS may have read ahead.
    /// </summary>
    /// <param name="carrier">Stays its owner's.</param>
    /// <param name="role">Whose keys are whose.</param>
    /// <param name="secret">What both sides contributed, the initiator's first.</param>
    /// <param name="cancellationToken">Ends the wait for the peer.</param>
    /// <exception cref="PhaulException">ProtocolError: the peer has other keys.</exception>
    public static async Task<SealedStream> OpenAsync(
        CarrierStream carrier, ConnectionRole role, byte[] secret, CancellationToken cancellationToken)
    {
        byte[] fromInitiator = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, 32, info: "phaul sealed records, initiator"u8.ToArray());
        byte[] fromResponder = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, 32, info: "phaul sealed records, responder"u8.ToArray());
        bool initiates = role == ConnectionRole.Initiator;
        var stream = initiates
            ? new SealedStream(carrier, fromInitiator, fromResponder)
            : new SealedStream(carrier, fromResponder, fromInitiator);
        CryptographicOperations.ZeroMemory(fromInitiator);
        CryptographicOperations.ZeroMemory(fromResponder);
        CryptographicOperations.ZeroMemory(secret);
        try
        {
            if (initiates)
                await stream.SendAsync(stream.Seal([], 0), cancellationToken).ConfigureAwait(false);
            else if (await stream.NextRecordAsync(cancellationToken).ConfigureAwait(false) != 0)
                throw FrameHeader.Violation("content in the first sealed record");
            else
                stream.Open([]);
            return stream;
        }
        catch
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (buffer.Length > 0)
        {
            int length = 0;
            if (buffer.Length > LongWrite)
            {
                length = Seal(buffer.Span[..FrameHeader.Size], 0);
                buffer = buffer[FrameHeader.Size..];
            }

            int content = Math.Min(buffer.Length, MaxRecord);
            await SendAsync(Seal(buffer.Span[..content], length), cancellationToken).ConfigureAwait(false);
            buffer = buffer[content..];
        }
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => _carrier.FlushAsync(cancellationToken);

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.Length == 0)
            return 0;
        while (_openedOffset == _opened.Length)
        {
            int length = await NextRecordAsync(cancellationToken).ConfigureAwait(false);
            if (length < 0)
                return 0;
            if (length <= buffer.Length)
            {
                Open(buffer.Span[..length]);
                if (length > 0)
                    return length;
            }
            else
            {
                _opened = new byte[length];
                _openedOffset = 0;
                Open(_opened);
            }
        }

        int count = Math.Min(buffer.Length, _opened.Length - _openedOffset);
        _opened.AsMemory(_openedOffset, count).CopyTo(buffer);
        _openedOffset += count;
        return count;
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush() => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _sealing.Dispose();
            _opening.Dispose();
        }

        base.Dispose(disposing);
    }

    // Appends a record to what is to be sent; returns the length of it all.
    private int Seal(ReadOnlySpan<byte> content, int at)
    {
        Span<byte> record = _sent.AsSpan(at, Overhead + content.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record, (uint)content.Length);
        Span<byte> nonce = stackalloc byte[NonceSize];
        Number(nonce, ref _recordsSent);
        _sealing.Encrypt(nonce, content, record[LengthSize..^TagSize], record[^TagSize..], record[..LengthSize]);
        return at + record.Length;
    }

    private ValueTask SendAsync(int length, CancellationToken cancellationToken) =>
        _carrier.WriteAsync(_sent.AsMemory(0, length), cancellationToken);

    /// <summary>Waits until the next record is there whole.</summary>
    /// <returns>The length of its content; -1 at the end of the stream.</returns>
    private async ValueTask<int> NextRecordAsync(CancellationToken cancellationToken)
    {
        int needed = Overhead;
        int length = 0;
        while (true)
        {
            int available = _receivedEnd - _receivedOffset;
            if (available >= LengthSize)
            {
                uint announced = BinaryPrimitives.ReadUInt32LittleEndian(_received.AsSpan(_receivedOffset));
                if (announced > MaxRecord)
                    throw FrameHeader.Violation($"a sealed record of {announced} bytes");
                length = (int)announced;
                needed = Overhead + length;
            }

            if (available >= needed)
                return length;
            if (_received.Length - _receivedEnd < MaxRecord)
            {
                _received.AsSpan(_receivedOffset, available).CopyTo(_received);
                (_receivedOffset, _receivedEnd) = (0, available);
            }

            int count = await _carrier.ReadAsync(_received.AsMemory(_receivedEnd), cancellationToken).ConfigureAwait(false);
            if (count == 0)
                return available == 0 ? -1 : throw new EndOfStreamException("The stream ended in the middle of a record.");
            _receivedEnd += count;
        }
    }

    private void Open(Span<byte> content)
    {
        ReadOnlySpan<byte> record = _received.AsSpan(_receivedOffset, Overhead + content.Length);
        Span<byte> nonce = stackalloc byte[NonceSize];
        Number(nonce, ref _recordsReceived);
        try
        {
            _opening.Decrypt(nonce, record[LengthSize..^TagSize], record[^TagSize..], content, record[..LengthSize]);
        }
        catch (AuthenticationTagMismatchException exception)
        {
            throw new PhaulException(PhaulErrorId.ProtocolError, "What arrived was changed on its way, or sealed with another key.", exception);
        }

        _receivedOffset += record.Length;
    }

    private static void Number(Span<byte> nonce, ref ulong records)
    {
        if (records == MaxRecords)
            throw new PhaulException(PhaulErrorId.ProtocolError, "This connection has carried as much as its keys may protect.");
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, records++);
        nonce[sizeof(ulong)..].Clear();
    }
}
