// What a process still lacks, while it unmaps, moves and gets: compared with a table of single pages.

using Phaul.Memory;

namespace Phaul.Tests.Memory;

public sealed class LateRangesTests
{
    private const ulong Page = 4096;
    private const int Pages = 96;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void TheyAreWhatATableOfPagesSays(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 300; round++)
        {
            // Of each page, which page of the image it lacks
            var table = new ulong?[Pages];
            var ranges = new List<LateRange>();
            for (int at = random.Next(4); at < Pages; at += random.Next(4))
            {
                int length = Math.Min(1 + random.Next(12), Pages - at);
                ranges.Add(new LateRange((ulong)at * Page, (ulong)(at + length) * Page, (ulong)(at + 1000) * Page));
                for (int i = 0; i < length; i++)
                    table[at + i] = (ulong)(at + i + 1000) * Page;
                at += length;
            }

            var late = new LateRanges(ranges);
            for (int step = 0; step < 40; step++)
            {
                if (random.Next(5) == 0)
                    late = late.Clone();
                var (from, to, length) = (random.Next(Pages), random.Next(Pages), 1 + random.Next(20));
                length = Math.Min(length, Pages - Math.Max(from, to));
                if (random.Next(2) == 0 || Math.Abs(from - to) < length)
                {
                    late.Remove((ulong)from * Page, (ulong)(from + length) * Page);
                    Array.Clear(table, from, length);
                }
                else
                {
                    late.Move((ulong)from * Page, (ulong)to * Page, (ulong)length * Page);
                    Array.Copy(table, from, table, to, length);
                    Array.Clear(table, from, length);
                }

                SeeThatTheyAre(table, late);
            }
        }
    }

    [Fact]
    public void NothingLacksNothing()
    {
        var none = new LateRanges([new LateRange(Page, Page, Page)]);
        Assert.True(none.IsEmpty);
        Assert.Null(none.At(Page));
        none.Remove(0, ulong.MaxValue);
        none.Remove(Page, Page);
        Assert.True(none.IsEmpty);
    }

    [Fact]
    public void WhatAForkedProcessGetsItsParentStillLacks()
    {
        var parent = new LateRanges([new LateRange(Page, 4 * Page, Page)]);
        var child = parent.Clone();
        child.Remove(0, 8 * Page);
        Assert.True(child.IsEmpty);
        Assert.Equal(new LateRange(2 * Page, 4 * Page, 2 * Page), parent.At(2 * Page));
    }

    private static void SeeThatTheyAre(ulong?[] table, LateRanges late)
    {
        for (int page = 0; page < table.Length; page++)
            Assert.Equal(table[page], late.At((ulong)page * Page)?.ImageStart);
        Assert.Equal(table.All(page => page is null), late.IsEmpty);
        ulong end = 0;
        foreach (var range in late.All)
        {
            Assert.True(range.Start >= end && range.End > range.Start);
            end = range.End;
        }

        if (!late.IsEmpty)
            Assert.Equal((ulong)Array.FindIndex(table, page => page is not null) * Page, late.From(0)!.Value.Start);
    }
}
