// For a dump whose memory follows, and whose parent's pages are on the destination: what CRIU wants to find of the parent here.

namespace Phaul.Images.Pages;

/// <summary>
/// CRIU leaves a page out of a dump only if the parent's pagemap has it (criu/page-xfer.c, check_pagehole_in_parent). Of a page server it
/// does not ask that; of images on this host it does, and these have no pages: the destination has them. So each owner gets a map that
/// has every address. Whether a page that was left out is really there is found out by the destination.
/// </summary>
internal static class StandInPagemaps
{
    // CRIU before 4.2 counts pages in 32 bits
    private const ulong RangePages = 1UL << 31;
    private const int AddressBits = 48;

    /// <summary>Writes them.</summary>
    /// <param name="directory">The last pre-dump's.</param>
    /// <param name="owners">Whose pages the destination has.</param>
    /// <exception cref="IOException">They cannot be written.</exception>
    public static void Write(string directory, IEnumerable<PageOwner> owners)
    {
        var rangeBytes = RangePages * (ulong)Environment.SystemPageSize;
        var ranges = new List<PagemapRange>();
        for (ulong address = 0; address < 1UL << AddressBits; address += rangeBytes)
            ranges.Add(new PagemapRange(address, RangePages, PagemapFlags.Present, 0));
        var pagesId = 0u;
        foreach (var owner in owners)
        {
            pagesId++;
            File.WriteAllBytes(Path.Combine(directory, PagemapImage.NameOf(owner)), PagemapImage.Compose(pagesId, ranges).ToArray());
            File.WriteAllBytes(Path.Combine(directory, PagemapImage.NameOfPages(pagesId)), []);
        }
    }
}
