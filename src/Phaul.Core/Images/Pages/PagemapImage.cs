// CRIU's pagemap images: which pages of one owner there are, and in which file. See https://criu.org/Memory_dumping_and_restoring.

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

/// <summary>Writes pagemap images.</summary>
internal static class PagemapImage
{
    /// <summary>What images begin with, before the magic of their kind (IMG_COMMON_MAGIC of criu/include/magic.h).</summary>
    public const uint CommonMagic = 0x54564319;

    private const uint Magic = 0x56084025; // PAGEMAP_MAGIC

    public static string NameOf(PageOwner owner) =>
        owner.Kind == PageOwnerKind.Task ? $"pagemap-{owner.Id}.img" : $"pagemap-shmem-{owner.Id}.img";

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

    private static void WriteRecord(this CodedOutputStream output, IMessage message)
    {
        output.WriteFixed32((uint)message.CalculateSize());
        message.WriteTo(output);
    }
}
