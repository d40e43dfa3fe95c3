// The header in front of everything that CRIU and a page server say to each other (criu/page-xfer.c, struct page_server_iov).

using System.Buffers.Binary;
using Phaul.Criu;

namespace Phaul.Images.Pages;

/// <summary>What a page-server header asks for, or announces.</summary>
internal enum PageServerCommand : ushort
{
    Add = 1,
    Hole = 2,
    Open = 3,
    OpenAndAnswer = 4,
    HasParent = 5,
    AddWithFlags = 6,
    Get = 7,
    Close = 0x1023,
    ForceClose = 0x1024,
}

/// <summary>Where the pages of a pagemap entry are.</summary>
[Flags]
internal enum PagemapFlags : ushort
{
    None = 0,

    /// <summary>In the parent images.</summary>
    InParent = 1,

    /// <summary>They may be given to the task while it runs already.</summary>
    Lazy = 2,

    /// <summary>In the pages image beside the pagemap.</summary>
    Present = 4,
}

/// <summary>Whose memory it is: a task's, by its pid, or a shared segment's.</summary>
internal enum PageOwnerKind : byte
{
    Task = 1,
    SharedMemory = 2,
}

/// <summary>Whose memory it is.</summary>
/// <param name="Kind">A task's or a shared segment's.</param>
/// <param name="Id">The pid in the images, or the segment's id.</param>
internal readonly record struct PageOwner(PageOwnerKind Kind, ulong Id)
{
    private const int KindBits = 8;

    public ulong OnWire => (Id << KindBits) | (byte)Kind;

    /// <exception cref="PhaulException">PageTransferFailed: CRIU knows no such owner.</exception>
    public static PageOwner FromWire(ulong value)
    {
        var kind = (PageOwnerKind)(value & ((1 << KindBits) - 1));
        ulong id = value >> KindBits;
        // The first segment of an IPC namespace has id 0, others are inode numbers
        if (kind is not PageOwnerKind.SharedMemory && (kind is not PageOwnerKind.Task || id is 0 or > int.MaxValue))
            throw new PhaulException(PhaulErrorId.PageTransferFailed, $"CRIU on the source sent pages of an unknown owner (0x{value:x}).");
        return new PageOwner(kind, id);
    }

    public override string ToString() => Kind == PageOwnerKind.Task ? $"process {Id}" : $"shared memory {Id}";
}

/// <summary>How long the header is: CRIU 4.2 made room for more pages, and nothing on the wire says which it is.</summary>
internal enum PageServerFormat
{
    /// <summary>Up to CRIU 4.1: 24 bytes, of which 4 count the pages.</summary>
    Short = 24,

    /// <summary>From CRIU 4.2 on: 32 bytes, of which 8 count the pages.</summary>
    Long = 32,
}

/// <summary>One header. Little-endian, as every architecture is that CRIU runs on and Phaul is built for.</summary>
internal readonly record struct PageServerHeader(PageServerCommand Command, PagemapFlags Flags, ulong Pages, ulong Address, ulong Owner)
{
    private const int CommandBits = 16;
    private const uint FormatChange = 40_200;

    /// <summary>What a version of CRIU speaks; an unknown one is taken for a new one.</summary>
    /// <param name="version">major * 10000 + minor * 100 + sublevel; 0: unknown.</param>
    public static PageServerFormat FormatOf(uint version) => version is 0 or >= FormatChange ? PageServerFormat.Long : PageServerFormat.Short;

    /// <inheritdoc cref="FormatOf(uint)"/>
    public static PageServerFormat FormatOf(CriuVersion version) => FormatOf((uint)((version.Major * 10000) + (version.Minor * 100) + version.Sublevel));

    /// <param name="bytes">As many as the format has.</param>
    public static PageServerHeader Read(ReadOnlySpan<byte> bytes, PageServerFormat format)
    {
        uint command = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        bool isShort = format == PageServerFormat.Short;
        ulong pages = isShort ? BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) : BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]);
        var rest = bytes[(isShort ? 8 : 16)..];
        return new PageServerHeader(
            (PageServerCommand)(command & ((1 << CommandBits) - 1)), (PagemapFlags)(command >> CommandBits), pages,
            BinaryPrimitives.ReadUInt64LittleEndian(rest), BinaryPrimitives.ReadUInt64LittleEndian(rest[8..]));
    }

    /// <param name="bytes">As many as the format has.</param>
    public void Write(Span<byte> bytes, PageServerFormat format)
    {
        bytes[..(int)format].Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, ((uint)Flags << CommandBits) | (uint)Command);
        Span<byte> rest;
        if (format == PageServerFormat.Short)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], (uint)Pages);
            rest = bytes[8..];
        }
        else
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], Pages);
            rest = bytes[16..];
        }

        BinaryPrimitives.WriteUInt64LittleEndian(rest, Address);
        BinaryPrimitives.WriteUInt64LittleEndian(rest[8..], Owner);
    }
}
