// Reads page images as CRIU does: entry by entry, through the parents.

using System.Buffers.Binary;
using Phaul.Images.Pages;
using Phaul.Images.Pages.Wire;

namespace Phaul.Tests.Images.Pages;

internal static class ChainReader
{
    private const int PageSize = 4096;

    public static SortedDictionary<ulong, byte[]> Read(string chain, int index, PageOwner owner)
    {
        var pages = new SortedDictionary<ulong, byte[]>();
        string directory = Path.Combine(chain, $"{index}");
        var (head, entries) = ReadPagemap(Path.Combine(directory, PagemapImage.NameOf(owner)));
        using var contents = File.OpenRead(Path.Combine(directory, PagemapImage.NameOfPages(head.PagesId)));
        SortedDictionary<ulong, byte[]>? parent = null;
        foreach (var entry in entries)
        {
            Assert.Equal(entry.NrPages, entry.CompatNrPages);
            for (ulong i = 0; i < entry.NrPages; i++)
            {
                ulong address = entry.Vaddr + (i * PageSize);
                var flags = (PagemapFlags)entry.Flags;
                if (flags.HasFlag(PagemapFlags.Present))
                {
                    pages[address] = new byte[PageSize];
                    contents.ReadExactly(pages[address]);
                }
                else
                {
                    Assert.Equal(PagemapFlags.InParent, flags);
                    parent ??= Read(chain, index - 1, owner);
                    pages[address] = parent[address];
                }
            }
        }

        Assert.Equal(contents.Length, contents.Position);
        return pages;
    }

    public static (PagemapHead Head, IReadOnlyList<PagemapEntry> Entries) ReadPagemap(string path)
    {
        var bytes = File.ReadAllBytes(path).AsSpan();
        Assert.Equal(0x54564319u, BinaryPrimitives.ReadUInt32LittleEndian(bytes));
        Assert.Equal(0x56084025u, BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]));
        bytes = bytes[8..];
        PagemapHead? head = null;
        var entries = new List<PagemapEntry>();
        while (bytes.Length > 0)
        {
            int length = (int)BinaryPrimitives.ReadUInt32LittleEndian(bytes);
            var record = bytes.Slice(4, length);
            if (head is null)
                head = PagemapHead.Parser.ParseFrom(record);
            else
                entries.Add(PagemapEntry.Parser.ParseFrom(record));
            bytes = bytes[(4 + length)..];
        }

        return (head!, entries);
    }
}
