// What a packed frame holds: the length before, and one LZ4 block.

using System.Buffers.Binary;
using K4os.Compression.LZ4;

namespace Phaul.Transport;

/// <summary>Packs and unpacks the payload of a frame (docs/protocol.md, kind Packed).</summary>
internal static class Lz4Block
{
    /// <summary>By this name hosts tell each other that they can unpack it.</summary>
    public const string Capability = "lz4";

    /// <summary>What is in front of the block.</summary>
    public const int HeaderSize = sizeof(uint);

    /// <summary>Packs a payload.</summary>
    /// <returns>The length with its header; 0: it does not become shorter than what there is room for.</returns>
    public static int Pack(ReadOnlySpan<byte> payload, Span<byte> packed)
    {
        var length = LZ4Codec.Encode(payload, packed[HeaderSize..], LZ4Level.L00_FAST);
        if (length <= 0)
            return 0;
        BinaryPrimitives.WriteUInt32LittleEndian(packed, (uint)payload.Length);
        return HeaderSize + length;
    }

    /// <summary>How long the payload was.</summary>
    /// <exception cref="PhaulException">ProtocolError: longer than a frame may be, or nothing.</exception>
    public static int LengthOf(ReadOnlySpan<byte> packed)
    {
        var length = BinaryPrimitives.ReadUInt32LittleEndian(packed);
        return length is > 0 and <= FrameHeader.MaxDataLength ? (int)length : throw FrameHeader.Violation($"a packed frame of {length} bytes");
    }

    /// <summary>Unpacks into as much room as <see cref="LengthOf"/> says.</summary>
    /// <exception cref="PhaulException">ProtocolError: it is damaged.</exception>
    public static void Unpack(ReadOnlySpan<byte> packed, Span<byte> payload)
    {
        if (LZ4Codec.Decode(packed[HeaderSize..], payload) != payload.Length)
            throw FrameHeader.Violation("a packed frame that cannot be unpacked");
    }
}
