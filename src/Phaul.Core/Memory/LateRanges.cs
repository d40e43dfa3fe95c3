// Which addresses of a process still lack their memory, and where that was at the dump.

namespace Phaul.Memory;

/// <summary>Addresses without memory; the end is the first behind them. What belongs there was at another place at the dump if it was moved since.</summary>
internal readonly record struct LateRange(ulong Start, ulong End, ulong ImageStart)
{
    /// <summary>The part of it between two addresses.</summary>
    public LateRange Between(ulong from, ulong to)
    {
        ulong start = Math.Max(from, Start);
        return new LateRange(start, Math.Min(to, End), ImageStart + (start - Start));
    }
}

/// <summary>The ranges of one process, which follow what it does with its mappings. Ranges do not overlap.</summary>
internal sealed class LateRanges
{
    private static readonly Comparer<LateRange> ByStart = Comparer<LateRange>.Create((one, other) => one.Start.CompareTo(other.Start));

    private readonly SortedSet<LateRange> _ranges;

    /// <param name="ranges">Ranges that do not overlap.</param>
    public LateRanges(IEnumerable<LateRange> ranges) => _ranges = new SortedSet<LateRange>(ranges.Where(range => range.End > range.Start), ByStart);

    /// <summary>Whether nothing is lacking.</summary>
    public bool IsEmpty => _ranges.Count == 0;

    /// <summary>All, ascending.</summary>
    public IEnumerable<LateRange> All => _ranges;

    /// <summary>The same for a process that was forked.</summary>
    public LateRanges Clone() => new(_ranges);

    /// <summary>The range from an address on; null: it lacks nothing there.</summary>
    public LateRange? At(ulong address)
    {
        foreach (var range in Touching(address, address + 1))
            return range.Between(address, range.End);
        return null;
    }

    /// <summary>The first range from an address on; null: it lacks nothing from there on.</summary>
    public LateRange? From(ulong address) => Touching(address, ulong.MaxValue, atMost: 1) is [var range] ? range.Between(address, range.End) : null;

    /// <summary>These addresses lack nothing any more, or are gone.</summary>
    public void Remove(ulong from, ulong to)
    {
        foreach (var range in Touching(from, to))
        {
            _ranges.Remove(range);
            if (range.Start < from)
                _ranges.Add(range.Between(range.Start, from));
            if (range.End > to)
                _ranges.Add(range.Between(to, range.End));
        }
    }

    /// <summary>What was lacking at these addresses is lacking elsewhere now; what was lacking there is gone.</summary>
    public void Move(ulong from, ulong to, ulong length)
    {
        var moved = Touching(from, from + length).Select(range => range.Between(from, from + length)).ToArray();
        Remove(from, from + length);
        Remove(to, to + length);
        foreach (var range in moved)
            _ranges.Add(new LateRange(range.Start - from + to, range.End - from + to, range.ImageStart));
    }

    /// <summary>All that are between two addresses, or reach into them, as a whole; ascending.</summary>
    /// <param name="from">The first address.</param>
    /// <param name="to">The first behind them.</param>
    /// <param name="atMost">How many.</param>
    public LateRange[] Touching(ulong from, ulong to, int atMost = int.MaxValue)
    {
        if (to <= from)
            return [];
        // The one that begins before may reach into it
        var before = _ranges.GetViewBetween(default, new LateRange(from, from, 0)).Max;
        var first = before.End > from ? before.Start : from;
        return [.. _ranges.GetViewBetween(new LateRange(first, first, 0), new LateRange(to - 1, to, 0)).Take(atMost)];
    }
}
