// Where the newest contents of some pages are.

namespace Phaul.Images.Pages;

/// <summary>Pages beside each other, in memory and in one pages image of the chain.</summary>
/// <param name="Address">Of the first.</param>
/// <param name="Pages">How many.</param>
/// <param name="MayBeLate">CRIU would give them to the task while it runs already.</param>
/// <param name="Image">Where they are; <see cref="PageImage.Read"/> reads them.</param>
/// <param name="Offset">Of the first there; <see cref="Remote"/>: they are on the source still.</param>
internal readonly record struct PagePiece(ulong Address, ulong Pages, bool MayBeLate, PageImage Image, long Offset)
{
    /// <summary>The offset of pages that are in no image here.</summary>
    public const long Remote = -1;

    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    /// <summary>Whether they are on the source still.</summary>
    public bool IsRemote => Offset == Remote;

    public ulong End => Address + (Pages * PageSize);

    /// <summary>The part of it between two addresses.</summary>
    public PagePiece Between(ulong from, ulong to)
    {
        ulong start = Math.Max(from, Address);
        return this with { Address = start, Pages = (Math.Min(to, End) - start) / PageSize, Offset = IsRemote ? Remote : Offset + (long)(start - Address) };
    }

    /// <summary>The first in an ascending list that ends behind an address.</summary>
    public static int IndexOf(IReadOnlyList<PagePiece> pieces, ulong address)
    {
        var (low, high) = (0, pieces.Count);
        while (low < high)
        {
            int middle = low + ((high - low) / 2);
            if (pieces[middle].End > address)
                high = middle;
            else
                low = middle + 1;
        }

        return low;
    }
}
