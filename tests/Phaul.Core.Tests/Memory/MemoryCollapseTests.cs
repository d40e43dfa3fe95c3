// Memory in huge pages, from the real kernel: this process's own.

using System.Runtime.InteropServices;
using Phaul.Memory;

namespace Phaul.Tests.Memory;

public sealed partial class MemoryCollapseTests : IDisposable
{
    private const int HugePage = 2 << 20;
    private const int Huge = 4;

    private const int Mapped = (Huge + 2) * HugePage;

    // Nothing is allowed in what is mapped at first: the part that is used then has no neighbour to be merged with
    private readonly nint _mapped = Map(0, Mapped, 0, 0x22, -1, 0);

    public void Dispose() => _ = Unmap(_mapped, Mapped);

    [SkippableFact]
    public async Task WhatIsThereIsGatheredAndWhatIsNotStaysAway()
    {
        const string setting = "/sys/kernel/mm/transparent_hugepage/enabled";
        Skip.If(!File.Exists(setting) || File.ReadAllText(setting).Contains("[always]"), "all memory here is in huge pages at once, or none");
        Assert.NotEqual(-1, _mapped);
        var start = (_mapped + HugePage) / HugePage * HugePage;
        Assert.Equal(0, Protect(start, Huge * HugePage, 3));
        // The second huge page lacks a small one, the fourth was only read
        for (var page = 0; page < 3 * HugePage / 4096; page++)
        {
            if (page != (HugePage / 4096) + 100)
                Marshal.WriteInt32(start + (page * 4096), page + 1);
        }

        for (var page = 3 * HugePage / 4096; page < Huge * HugePage / 4096; page++)
            Assert.Equal(0, Marshal.ReadInt32(start + (page * 4096)));

        var outcome = await MemoryCollapse.RunAsync([Environment.ProcessId], TimeSpan.FromMinutes(1), CancellationToken.None);
        Skip.If(outcome.Bytes == 0 || outcome.Obstacle is not null, $"huge pages cannot be had here: {outcome.Obstacle}");

        Assert.InRange(outcome.Bytes, 2 * HugePage, long.MaxValue);
        Assert.Equal(2 * HugePage >> 10, Of(start, "AnonHugePages"));
        Assert.Equal(((3 * HugePage) - 4096) >> 10, Of(start, "Rss"));
        for (var page = 0; page < 3 * HugePage / 4096; page++)
        {
            if (page != (HugePage / 4096) + 100)
                Assert.Equal(page + 1, Marshal.ReadInt32(start + (page * 4096)));
        }
    }

    [Fact]
    public async Task AProcessThatHasEndedIsNoObstacle()
    {
        var outcome = await MemoryCollapse.RunAsync([int.MaxValue], TimeSpan.FromMinutes(1), CancellationToken.None);
        Assert.Equal((0, null), (outcome.Bytes, outcome.Obstacle));
    }

    [SkippableFact]
    public async Task ItGoesNoFurtherThanItsTime()
    {
        var outcome = await MemoryCollapse.RunAsync([Environment.ProcessId], TimeSpan.Zero, CancellationToken.None);
        Skip.If(outcome.Obstacle is null, "no memory of this process is in whole huge pages");
        Assert.Contains("within 0 s", outcome.Obstacle);
        Assert.Equal(0, outcome.Bytes);
    }

    // Kibibytes of the mapping that an address is in
    private static long Of(nint address, string field)
    {
        var isThere = false;
        foreach (var line in File.ReadLines("/proc/self/smaps"))
        {
            var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words[0].Split('-') is [var from, var to])
                isThere = Convert.ToUInt64(from, 16) <= (ulong)address && (ulong)address < Convert.ToUInt64(to, 16);
            else if (isThere && words[0] == field + ":")
                return long.Parse(words[1]);
        }

        throw new InvalidOperationException($"No {field} at 0x{address:x}.");
    }

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    private static partial nint Map(nint address, nuint length, int protection, int flags, int descriptor, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    private static partial int Protect(nint address, nuint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    private static partial int Unmap(nint address, nuint length);
}
