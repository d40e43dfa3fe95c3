// CRIU's pagemap images: which pages of one owner there are, and in which file. See https://criu.org/Memory_dumping_and_restoring.

using System.Buffers.Binary;
using System.Globalization;
using Google.Protobuf;
using Phaul.Images.Pages.Wire;

namespace Phaul.Images.Pages;

/// <summary>Pages beside each other that are in the same place.</summary>
/// <param name="Address">Of the first; a multiple of the page size. In shared memory: counted from its begin.</param>
/// <param name="Pages">How many; at least 1.</param>
/// <param name="Flags">Where they are.</param>
/// <param name="Offset">If they are present: of the first in the pages image, in bytes.</param>
internal readonly record struct PagemapRange(ulong Address, ulong Pages, PagemapFlags Flags, long Offset)
{
    public ulong End => Address + (Pages * (ulong)Environment.SystemPageSize);

    public bool IsPresent => Flags.HasFlag(PagemapFlags.Present);
}

/// <summary>Reads and writes pagemap images.</summary>
internal static class PagemapImage
{
    /// <summary>What images begin with, before the magic of their kind (IMG_COMMON_MAGIC of criu/include/magic.h).</summary>
    public const uint CommonMagic = 0x54564319;

    private const uint Magic = 0x56084025; // PAGEMAP_MAGIC
    private const long LongestImage = 256 << 20;
    private const string TaskPrefix = "pagemap-";
    private const string SharedPrefix = "pagemap-shmem-";
    private const string Suffix = ".img";

    public static string NameOf(PageOwner owner) =>
        (owner.Kind == PageOwnerKind.Task ? TaskPrefix : SharedPrefix) + owner.Id.ToString(CultureInfo.InvariantCulture) + Suffix;

    /// <summary>Whose pagemaps are in a directory.</summary>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static IEnumerable<PageOwner> OwnersIn(string directory) =>
        Directory.EnumerateFiles(directory).Select(path => OwnerOf(Path.GetFileName(path))).OfType<PageOwner>();

    private static PageOwner? OwnerOf(string name)
    {
        var kind = name.StartsWith(SharedPrefix, StringComparison.Ordinal) ? PageOwnerKind.SharedMemory : PageOwnerKind.Task;
        var prefix = kind == PageOwnerKind.SharedMemory ? SharedPrefix : TaskPrefix;
        return name.StartsWith(prefix, StringComparison.Ordinal) && name.EndsWith(Suffix, StringComparison.Ordinal)
            && name.Length > prefix.Length + Suffix.Length
            && ulong.TryParse(name.AsSpan(prefix.Length, name.Length - prefix.Length - Suffix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var id)
            ? new PageOwner(kind, id)
            : null;
    }

    public static string NameOfPages(uint pagesId) => $"pages-{pagesId}.img";

    /// <summary>The bytes of an image.</summary>
    /// <param name="pagesId">The number of the pages image.</param>
    /// <param name="ranges">In ascending order.</param>
    public static ReadOnlyMemory<byte> Compose(uint pagesId, IReadOnlyList<PagemapRange> ranges)
    {
        var image = new MemoryStream();
        using var output = new CodedOutputStream(image, leaveOpen: true);
        output.WriteFixed32(CommonMagic);
        output.WriteFixed32(Magic);
        output.WriteRecord(new PagemapHead { PagesId = pagesId });
        var entry = new PagemapEntry();
        foreach (var range in ranges)
        {
            entry.Vaddr = range.Address;
            entry.CompatNrPages = (uint)Math.Min(range.Pages, uint.MaxValue);
            entry.NrPages = range.Pages;
            entry.Flags = (uint)range.Flags;
            output.WriteRecord(entry);
        }

        output.Flush();
        return image.GetBuffer().AsMemory(0, (int)image.Length);
    }

    /// <summary>Reads an image that CRIU wrote. What its ranges say is not checked here.</summary>
    /// <returns>The number of the pages image, and for each range where it begins, how many pages it has, and where they are.</returns>
    /// <exception cref="PhaulException">RestoreFailed: it is absent or damaged.</exception>
    public static (uint PagesId, IReadOnlyList<(ulong Address, ulong Pages, PagemapFlags Flags)> Ranges) Read(string path)
    {
        try
        {
            if (new FileInfo(path).Length > LongestImage)
                throw new InvalidDataException("it is too long");
            ReadOnlySpan<byte> image = File.ReadAllBytes(path);
            if (ReadNumber(ref image) != CommonMagic || ReadNumber(ref image) != Magic)
                throw new InvalidDataException("it does not begin as one");
            var head = PagemapHead.Parser.ParseFrom(ReadRecord(ref image));
            var ranges = new List<(ulong, ulong, PagemapFlags)>();
            while (!image.IsEmpty)
            {
                var entry = PagemapEntry.Parser.ParseFrom(ReadRecord(ref image));
                var flags = entry.HasFlags ? (PagemapFlags)entry.Flags : entry.InParent ? PagemapFlags.InParent : PagemapFlags.Present;
                ranges.Add((entry.Vaddr, entry.HasNrPages ? entry.NrPages : entry.CompatNrPages, flags));
            }

            return (head.PagesId, ranges);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidDataException)
        {
            throw new PhaulException(PhaulErrorId.RestoreFailed, $"The image {path} cannot be used: {exception.Message}", exception);
        }
    }

    private static uint ReadNumber(ref ReadOnlySpan<byte> image)
    {
        if (image.Length < sizeof(uint))
            throw new InvalidDataException("it is cut short");
        var number = BinaryPrimitives.ReadUInt32LittleEndian(image);
        image = image[sizeof(uint)..];
        return number;
    }

    // A length of its own in front of each, not protobuf's
    private static ReadOnlySpan<byte> ReadRecord(ref ReadOnlySpan<byte> image)
    {
        var length = ReadNumber(ref image);
        if (length > image.Length)
            throw new InvalidDataException("it is cut short");
        var record = image[..(int)length];
        image = image[(int)length..];
        return record;
    }

    private static void WriteRecord(this CodedOutputStream output, IMessage message)
    {
        output.WriteFixed32((uint)message.CalculateSize());
        message.WriteTo(output);
    }
}
