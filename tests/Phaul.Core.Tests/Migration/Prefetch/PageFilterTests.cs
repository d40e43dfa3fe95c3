// What comes out of the filter is to a destination what went in, and has nothing in it that is there already.

using Phaul.Images.Pages;
using Phaul.Tests.Images.Pages;
using Phaul.Tests.Transport;
using Phaul.Transport;

namespace Phaul.Tests.Migration.Prefetch;

public sealed class PageFilterTests : IDisposable
{
    private const int PageSize = 4096;

    private static readonly PageOwner[] Owners = [new(PageOwnerKind.Task, 7), new(PageOwnerKind.Task, 8), new(PageOwnerKind.SharedMemory, 0)];

    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Theory]
    [InlineData((int)PageServerFormat.Short)]
    [InlineData((int)PageServerFormat.Long)]
    public async Task TheDestinationHasWhatCriuDumped(int wire)
    {
        var format = (PageServerFormat)wire;
        int seed = Environment.TickCount;
        var random = new Random(seed);
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        using var receiver = new PageReceiver(pair.Destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions { Format = format });
        var channel = pair.Source.OpenChannel(ChannelId.Pages);
        using var answers = new SequenceReader(channel);
        var sent = new SentPages();
        var memory = new Dictionary<PageOwner, SortedDictionary<ulong, byte[]>>();

        // A round that has not got the last owner
        var round = new MemoryStream();
        foreach (var owner in Owners[..^1])
        {
            memory[owner] = Some(random);
            Write(round, format, owner, memory[owner], random);
            foreach (var (address, page) in memory[owner])
                sent.Add(owner, address, sent.HashOf(page));
        }

        await ReceiveAsync(channel, answers, receiver, "0", Closed(round, format), bytes => (bytes, false), random);

        // Of each kind: the same, changed, gone, new
        long same = 0;
        var dump = new MemoryStream();
        foreach (var owner in Owners)
        {
            var now = Some(random);
            foreach (var (address, page) in memory.GetValueOrDefault(owner, []).Where(_ => random.Next(2) == 0))
            {
                now[address] = page;
                same++;
            }

            memory[owner] = now;
            Write(dump, format, owner, now, random);
        }

        var filter = new PageFilter(sent, format);
        await ReceiveAsync(channel, answers, receiver, "1", Closed(dump, format), bytes => (filter.Pass(bytes, out var flush).ToArray(), flush), random);

        Assert.True(same == filter.PagesSkipped, $"seed {seed}: {filter.PagesSkipped} of {same} left out");
        foreach (var owner in Owners)
        {
            var found = ChainReader.Read(_temporary.Path, 1, owner);
            Assert.True(memory[owner].Keys.SequenceEqual(found.Keys), $"seed {seed}: other pages of {owner}");
            Assert.True(memory[owner].All(page => page.Value.AsSpan().SequenceEqual(found[page.Key])), $"seed {seed}: other contents of {owner}");
        }
    }

    [Fact]
    public void PagesOfNobodyAreRefused()
    {
        var header = new byte[(int)PageServerFormat.Long];
        new PageServerHeader(PageServerCommand.AddWithFlags, PagemapFlags.Present, 1, 0x1000, 1).Write(header, PageServerFormat.Long);

        Assert.Throws<PhaulException>(() => new PageFilter(new SentPages(), PageServerFormat.Long).Pass(header, out _));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AStackPointersPageIsNotLeftOut(bool isLazy)
    {
        var (sent, page) = (new SentPages(), new byte[PageSize]);
        sent.Add(Owners[0], 0x1000, sent.HashOf(page));
        var header = new byte[(int)PageServerFormat.Long];
        new PageServerHeader(PageServerCommand.AddWithFlags, PagemapFlags.Present | (isLazy ? PagemapFlags.Lazy : 0), 1, 0x1000, Owners[0].OnWire)
            .Write(header, PageServerFormat.Long);
        var filter = new PageFilter(sent, PageServerFormat.Long);

        var passed = filter.Pass([.. header, .. page], out _).Length + filter.Pass([.. header], out _).Length;

        Assert.Equal(isLazy ? 1 : 0, filter.PagesSkipped);
        Assert.InRange(passed, isLazy ? 0 : PageSize, isLazy ? 2 * header.Length : PageSize + header.Length);
    }

    [Fact]
    public void APageOfZerosHasAHash() => Assert.NotEqual(UInt128.Zero, new SentPages().HashOf(new byte[PageSize]));

    [Fact]
    public void NobodyCanForeseeAHash()
    {
        var page = new byte[PageSize];
        Assert.NotEqual(new SentPages().HashOf(page), new SentPages().HashOf(page));
        var pages = new SentPages();
        Assert.Equal(pages.HashOf(page), pages.Next().HashOf(page));
    }

    private async Task ReceiveAsync(
        PhaulChannel channel, SequenceReader answers, PageReceiver receiver, string directory, byte[] stream, Func<byte[], (byte[] Passed, bool Flush)> pass, Random random)
    {
        var receiving = receiver.ReceiveAsync(_temporary.MakeDirectory(directory), default);
        using var writer = new SequenceWriter(channel);
        for (int at = 0; at < stream.Length;)
        {
            // CRIU's bytes come in any portions
            int length = Math.Min(random.Next(1, 20_000), stream.Length - at);
            var (passed, flush) = pass(stream[at..(at + length)]);
            await writer.WriteAsync(passed, default).Within();
            if (flush)
                await writer.FlushAsync(default).Within();
            at += length;
        }

        await writer.FlushAsync(default).Within();
        Assert.True(await answers.ReadExactlyAsync(new byte[sizeof(int)], default).Within());
        await receiving.Within();
    }

    private static SortedDictionary<ulong, byte[]> Some(Random random)
    {
        var pages = new SortedDictionary<ulong, byte[]>();
        for (ulong address = 0x10_0000; pages.Count < 150; address += (ulong)(random.Next(4) == 0 ? random.Next(1, 2000) : 1) * PageSize)
        {
            pages[address] = new byte[PageSize];
            random.NextBytes(pages[address]);
        }

        return pages;
    }

    private static void Write(MemoryStream stream, PageServerFormat format, PageOwner owner, SortedDictionary<ulong, byte[]> pages, Random random)
    {
        Header(stream, format, new PageServerHeader(PageServerCommand.Open, 0, 0, 0, owner.OnWire));
        var list = pages.ToList();
        for (int from = 0; from < list.Count;)
        {
            int to = from + 1;
            while (to < list.Count && list[to].Key == list[to - 1].Key + PageSize && random.Next(30) > 0)
                to++;
            Header(stream, format, new PageServerHeader(
                PageServerCommand.AddWithFlags, PagemapFlags.Present | (to - from == 1 || random.Next(2) == 0 ? PagemapFlags.Lazy : 0), (ulong)(to - from), list[from].Key, owner.OnWire));
            for (; from < to; from++)
                stream.Write(list[from].Value);
        }
    }

    private static byte[] Closed(MemoryStream stream, PageServerFormat format)
    {
        Header(stream, format, new PageServerHeader(PageServerCommand.Close, 0, 0, 0, 0));
        return stream.ToArray();
    }

    private static void Header(MemoryStream stream, PageServerFormat format, PageServerHeader header)
    {
        var bytes = new byte[(int)format];
        header.Write(bytes, format);
        stream.Write(bytes);
    }
}
