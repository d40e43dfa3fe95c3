// Reading a real process: everything once, and then only what it has changed.

using Phaul.Images.Pages;
using Phaul.Native;
using Phaul.Tests.Criu;
using Phaul.Tests.Images.Pages;
using Phaul.Tests.Transport;
using Phaul.Transport;

namespace Phaul.Tests.Migration.Prefetch;

public sealed class MemoryPrefetchTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [SkippableFact]
    public async Task OnlyWhatHasChangedIsSentAgain()
    {
        Skip.If(Environment.UserName != "root", "reading another process's pagemap takes root");
        await using var program = await CountingProgram.StartAsync(RememberingProgram.Script);
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        using var receiver = new PageReceiver(pair.Destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions());
        using var prefetch = new MemoryPrefetch(program.Pid, pair.Source.OpenChannel(ChannelId.Pages), PageServerFormat.Long);
        async Task<Phaul.Images.DumpStatistics> RoundAsync(int index)
        {
            var receiving = receiver.ReceiveAsync(_temporary.MakeDirectory($"{index}"), default);
            var statistics = await prefetch.CopyAsync(default).Within();
            await receiving.Within();
            return statistics;
        }

        var first = await RoundAsync(0);
        await program.SeeItCountAsync();
        var second = await RoundAsync(1);
        await StopAsync(program.Pid);
        await RoundAsync(2);
        var still = await RoundAsync(3);

        Assert.Equal(first.PagesScanned, first.PagesWritten);
        Assert.InRange(second.PagesWritten, 1, first.PagesWritten / 2);
        Assert.Equal(0, still.PagesWritten);
        Assert.Equal(still.PagesScanned, still.PagesSkippedParent);
        using var memory = RunningMemory.TryOpen(program.Pid)!;
        var found = ChainReader.Read(_temporary.Path, 3, new PageOwner(PageOwnerKind.Task, (ulong)program.Pid));
        Assert.Equal(still.PagesScanned, found.Count);
        foreach (var (address, page) in found)
        {
            var now = new byte[page.Length];
            Assert.Equal(page.Length, memory.Read(address, now, isAlone: true));
            Assert.Equal(page.Length, memory.Read(address, now, isAlone: false));
            Assert.True(page.AsSpan().SequenceEqual(now), $"0x{address:x}");
        }
    }

    [SkippableFact]
    public async Task WhatAForkSharesStaysShared()
    {
        Skip.If(Environment.UserName != "root", "reading another process's pagemap takes root");
        await using var program = await CountingProgram.StartAsync(SharingScript);
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        using var receiver = new PageReceiver(pair.Destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions());
        using var prefetch = new MemoryPrefetch(program.Pid, pair.Source.OpenChannel(ChannelId.Pages), PageServerFormat.Long);
        int child = Processes.ChildrenOf(program.Pid).Single();
        long before = SharedKibibytes(child);
        Assert.InRange(before, 2048, long.MaxValue);

        var receiving = receiver.ReceiveAsync(_temporary.MakeDirectory("0"), default);
        var statistics = await prefetch.CopyAsync(default).Within();
        await receiving.Within();

        Assert.InRange(statistics.PagesWritten * 4, 2 * before, long.MaxValue);
        // But for what the two have written meanwhile
        Assert.InRange(SharedKibibytes(child), before * 3 / 4, before);
    }

    private const string SharingScript = """
        exec 3<> <(:)
        for ((k=0; k<40000; k++)); do a[k]=$((k * 7)); done
        (while :; do read -t 1 -u 3; done) &
        i=0
        while :; do i=$((i+1)); echo $i >>"$0"; read -t 0.02 -u 3; done
        """;

    private static long SharedKibibytes(int pid) => File.ReadLines($"/proc/{pid}/smaps_rollup")
        .Where(line => line.StartsWith("Shared_Dirty:", StringComparison.Ordinal))
        .Sum(line => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture));

    [SkippableFact]
    public void WhatIsNotThereIsNotRead()
    {
        Skip.If(Environment.UserName != "root", "reading another process's pagemap takes root");
        using var memory = RunningMemory.TryOpen(Environment.ProcessId)!;
        Assert.Equal(0, memory.Read(0x1000, new byte[4096], isAlone: true));
        Assert.Equal(0, memory.Read(0x1000, new byte[4096], isAlone: false));
        Assert.Null(RunningMemory.TryOpen(int.MaxValue));
    }

    private static async Task StopAsync(int pid)
    {
        Libc.Check(Libc.Kill(pid, Libc.SignalStop), "kill");
        while (!File.ReadAllText($"/proc/{pid}/stat").Contains(") T ", StringComparison.Ordinal))
            await Task.Delay(1).Within();
    }
}
