// The eight bytes in front of every frame, and what is allowed in them.

using System.Buffers.Binary;

namespace Phaul.Transport;

/// <summary>The channels of a connection.</summary>
public enum ChannelId : byte
{
    /// <summary>Messages of the migration, and the connection's own.</summary>
    Control = 0,

    /// <summary>CRIU's page stream, as it is.</summary>
    Pages = 1,

    /// <summary>Images that are not pages.</summary>
    Images = 2,

    /// <summary>Files of the program.</summary>
    Files = 3,
}

internal enum FrameKind : byte
{
    Data = 1,
    End = 2,
    Credit = 3,
    Ping = 4,
    Pong = 5,
    Hello = 6,
    HelloReply = 7,
    Bye = 8,

    /// <summary>As Data, packed: only to peers with the capability.</summary>
    Packed = 9,
}

/// <summary>u8 channel, u8 kind, u16 reserved (0), u32 little-endian length of the payload.</summary>
internal readonly record struct FrameHeader(ChannelId Channel, FrameKind Kind, int Length)
{
    public const int Size = 8;

    /// <summary>The largest payload of a data frame.</summary>
    public const int MaxDataLength = 256 << 10;

    /// <summary>The largest message on the control channel.</summary>
    public const int MaxControlLength = 1 << 20;

    public const int MaxHelloLength = 64 << 10;

    public const int MaxByeLength = 1024;

    public const int CreditLength = 4;

    public const int PingLength = 8;

    /// <summary>What each data or End frame costs in credit beside its payload, so that tiny frames are bounded, too.</summary>
    public const int CreditOverhead = 256;

    public void Write(Span<byte> destination)
    {
        destination[0] = (byte)Channel;
        destination[1] = (byte)Kind;
        destination[2] = 0;
        destination[3] = 0;
        BinaryPrimitives.WriteInt32LittleEndian(destination[4..], Length);
    }

    /// <exception cref="PhaulException">ProtocolError: no such frame exists.</exception>
    public static FrameHeader Parse(ReadOnlySpan<byte> source)
    {
        byte channel = source[0];
        var kind = (FrameKind)source[1];
        ushort reserved = BinaryPrimitives.ReadUInt16LittleEndian(source[2..]);
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(source[4..]);
        if (channel > (byte)ChannelId.Files)
            throw Violation($"a frame for the unknown channel {channel}");
        if (reserved != 0)
            throw Violation($"a frame whose reserved bytes are {reserved:X4}");
        var id = (ChannelId)channel;
        (int least, int most) = (id, kind) switch
        {
            (ChannelId.Control, FrameKind.Data) => (0, MaxControlLength),
            (ChannelId.Control, FrameKind.Ping or FrameKind.Pong) => (PingLength, PingLength),
            (ChannelId.Control, FrameKind.Hello or FrameKind.HelloReply) => (0, MaxHelloLength),
            (ChannelId.Control, FrameKind.Bye) => (0, MaxByeLength),
            (not ChannelId.Control, FrameKind.Data) => (1, MaxDataLength),
            (not ChannelId.Control, FrameKind.Packed) => (Lz4Block.HeaderSize + 1, MaxDataLength),
            (not ChannelId.Control, FrameKind.End) => (0, 0),
            (not ChannelId.Control, FrameKind.Credit) => (CreditLength, CreditLength),
            _ => throw Violation($"a frame of kind {(byte)kind} on channel {id}"),
        };
        if (length < least || length > most)
            throw Violation($"a {kind} frame of {length} bytes on channel {id}, where {least} to {most} are allowed");
        return new FrameHeader(id, kind, (int)length);
    }

    internal static PhaulException Violation(string what) =>
        new(PhaulErrorId.ProtocolError, $"The peer broke the protocol: it sent {what}.");
}
