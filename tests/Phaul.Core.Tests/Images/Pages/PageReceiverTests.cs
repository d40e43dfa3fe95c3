// The destination's page server against a stand-in for CRIU on the source: what is on disk is what CRIU reads, in every order.

using System.Buffers.Binary;
using Phaul.Images.Pages;
using Phaul.Tests.Transport;
using Phaul.Transport;

namespace Phaul.Tests.Images.Pages;

public sealed class PageReceiverTests : IDisposable
{
    private const int PageSize = 4096;
    private const PagemapFlags LateOrNow = PagemapFlags.Present | PagemapFlags.Lazy;
    private static readonly PageOwner Task7 = new(PageOwnerKind.Task, 7);

    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Theory]
    [InlineData((int)PageServerFormat.Short, false)]
    [InlineData((int)PageServerFormat.Long, false)]
    [InlineData((int)PageServerFormat.Long, true)]
    public async Task TheChainHoldsTheNewestOfEveryPage(int format, bool dedup)
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        using var receiver = new PageReceiver(
            pair.Destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions { Format = (PageServerFormat)format, AutoDedup = dedup });
        using var criu = new StandInForCriu(pair.Source.OpenChannel(ChannelId.Pages), (PageServerFormat)format);
        PageOwner[] owners = [Task7, new(PageOwnerKind.Task, 8), new(PageOwnerKind.SharedMemory, 0)];
        var memory = owners.ToDictionary(owner => owner, _ => new SortedDictionary<ulong, byte[]>());

        string directory = "";
        for (int iteration = 0; iteration < 4; iteration++)
        {
            string before = directory;
            directory = _temporary.MakeDirectory($"{iteration}");
            var receiving = receiver.ReceiveAsync(directory, default);
            // A process that is new has no parent; the second one comes late
            foreach (var owner in owners.Where(owner => iteration > 0 || owner.Id != 8))
            {
                bool hadParent = await criu.OpenAsync(owner).Within();
                Assert.Equal(iteration > (owner.Id != 8 ? 0 : 1), hadParent);
                await criu.SendAsync(owner, Change(memory[owner], hadParent, random), random).Within();
            }

            await criu.CloseAsync().Within();
            await receiving.Within();
        }

        foreach (var owner in owners)
        {
            var found = ChainReader.Read(_temporary.Path, 3, owner);
            Assert.True(memory[owner].Keys.SequenceEqual(found.Keys), $"seed {seed}: other pages of {owner}");
            Assert.True(memory[owner].All(page => page.Value.AsSpan().SequenceEqual(found[page.Key])), $"seed {seed}: other contents of {owner}");
        }

        Assert.Equal(criu.BytesSent, receiver.BytesReceived);
        Assert.Equal(
            dedup,
            File.ReadAllBytes(_temporary["0/pages-1.img"]).Chunk(PageSize).Any(page => page.All(part => part == 0)));
    }

    [Fact]
    public async Task OnlyItsOwnerCanReadWhatItWrites()
    {
        await using var lane = await Lane.OpenAsync(_temporary);
        await lane.Criu.OpenAsync(Task7).Within();
        await lane.Criu.SendAsync(Task7, [new(0x1000, 1, LateOrNow)], new Random(1)).Within();
        await lane.Criu.CloseAsync().Within();
        await lane.Receiving.Within();

        Assert.All(
            Directory.GetFiles(lane.Directory), file => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(file)));
    }

    [Fact]
    public async Task SaysWhetherThereIsAParent()
    {
        await using var lane = await Lane.OpenAsync(_temporary);

        Assert.Equal(0, await lane.Criu.AskForParentAsync(Task7).Within());
    }

    [Theory]
    [InlineData("hole", "the iteration before has none")]
    [InlineData("backwards", "after those up to")]
    [InlineData("unaligned", "0x1001")]
    [InlineData("overflow", "pages at 0x1000")]
    [InlineData("too many", "pages at 0x1000")]
    [InlineData("nowhere", "that are Lazy")]
    [InlineData("in both places", "that are InParent, Present")]
    [InlineData("none", "0 pages")]
    [InlineData("unopened", "had not opened")]
    [InlineData("unknown owner", "unknown owner")]
    [InlineData("no pid", "unknown owner")]
    [InlineData("twice", "twice")]
    [InlineData("get", "does not do")]
    [InlineData("end", "before it had sent all pages")]
    [InlineData("torn", "in the middle of a page")]
    public async Task WhatCannotBeIsRefused(string what, string message)
    {
        await using var lane = await Lane.OpenAsync(_temporary);
        await lane.Criu.OpenAsync(Task7).Within();
        var (criu, add) = (lane.Criu, new PageServerHeader(PageServerCommand.AddWithFlags, LateOrNow, 1, 0x1000, Task7.OnWire));
        switch (what)
        {
            case "hole":
                await criu.WriteAsync(add with { Flags = PagemapFlags.InParent });
                break;
            case "backwards":
                await criu.WriteAsync(add with { Address = 0x5000 }, new byte[PageSize]);
                await criu.WriteAsync(add);
                break;
            case "unaligned":
                await criu.WriteAsync(add with { Address = 0x1001 });
                break;
            case "overflow":
                await criu.WriteAsync(add with { Pages = ulong.MaxValue / PageSize });
                break;
            case "too many":
                await criu.WriteAsync(add with { Pages = ((ulong)long.MaxValue / PageSize) + 1 }, new byte[PageSize]);
                break;
            case "nowhere":
                await criu.WriteAsync(add with { Flags = PagemapFlags.Lazy });
                break;
            case "in both places":
                await criu.WriteAsync(add with { Flags = PagemapFlags.InParent | PagemapFlags.Present });
                break;
            case "none":
                await criu.WriteAsync(add with { Pages = 0 });
                break;
            case "unopened":
                await criu.WriteAsync(add with { Owner = new PageOwner(PageOwnerKind.Task, 9).OnWire });
                break;
            case "unknown owner" or "no pid":
                await criu.WriteAsync(new PageServerHeader(PageServerCommand.OpenAndAnswer, 0, 0, 0, what == "no pid" ? 1u : 0x703));
                break;
            case "twice":
                await criu.WriteAsync(new PageServerHeader(PageServerCommand.OpenAndAnswer, 0, 0, 0, Task7.OnWire));
                break;
            case "get":
                await criu.WriteAsync(add with { Command = PageServerCommand.Get });
                break;
            case "torn":
                await criu.WriteAsync(add with { Flags = LateOrNow }, new byte[100]);
                break;
        }

        await criu.EndAsync();
        var thrown = await Assert.ThrowsAsync<PhaulException>(() => lane.Receiving.Within());

        Assert.Equal(PhaulErrorId.PageTransferFailed, thrown.ErrorId);
        Assert.Contains(message, thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task EndsBeforeTheDiskIsFull()
    {
        await using var lane = await Lane.OpenAsync(_temporary, new PageReceiverOptions { MinFreeBytes = long.MaxValue });
        await lane.Criu.OpenAsync(Task7).Within();
        await lane.Criu.SendAsync(Task7, [new(0x1000, 1, LateOrNow)], new Random(1)).Within();

        var thrown = await Assert.ThrowsAsync<PhaulException>(() => lane.Receiving.Within());

        Assert.Contains("too little room", thrown.Message, StringComparison.Ordinal);
        Assert.NotNull(thrown.RecommendedAction);
    }

    [Fact]
    public async Task ALinkInTheWayIsNotFollowed()
    {
        await using var lane = await Lane.OpenAsync(_temporary);
        File.CreateSymbolicLink(Path.Combine(lane.Directory, "pages-1.img"), _temporary["elsewhere"]);
        await lane.Criu.WriteAsync(new PageServerHeader(PageServerCommand.OpenAndAnswer, 0, 0, 0, Task7.OnWire));

        await Assert.ThrowsAsync<PhaulException>(() => lane.Receiving.Within());

        Assert.False(File.Exists(_temporary["elsewhere"]));
    }

    /// <summary>Changes some pages, unmaps and maps others; gives what an iteration would send.</summary>
    private static List<SentRange> Change(SortedDictionary<ulong, byte[]> memory, bool hasParent, Random random)
    {
        var sent = new List<SentRange>();
        for (ulong page = 1; page < 300; page++)
        {
            ulong address = page * PageSize;
            int luck = random.Next(10);
            if (luck == 0)
            {
                memory.Remove(address);
            }
            else if (luck < 4 || !hasParent)
            {
                // Of any length, so that later ones cut earlier ones anywhere
                int length = random.Next(3) == 0 ? 1 : random.Next(1, Math.Min(20, 301 - (int)page));
                var content = new byte[length * PageSize];
                random.NextBytes(content);
                for (int i = 0; i < length; i++)
                    memory[address + (ulong)(i * PageSize)] = content[(i * PageSize)..((i + 1) * PageSize)];
                sent.Add(new SentRange(address, length, random.Next(2) == 0 ? LateOrNow : PagemapFlags.Present, content));
                page += (ulong)length - 1;
            }
            else if (memory.ContainsKey(address))
            {
                // A hole may span what the parent has in pieces
                if (sent.Count > 0 && sent[^1].Flags == PagemapFlags.InParent && sent[^1].Address + ((ulong)sent[^1].Pages * PageSize) == address)
                    sent[^1] = sent[^1] with { Pages = sent[^1].Pages + 1 };
                else
                    sent.Add(new SentRange(address, 1, PagemapFlags.InParent));
            }
        }

        return sent;
    }

    private sealed record Lane(ConnectedPair Pair, PageReceiver Receiver, StandInForCriu Criu, string Directory, Task Receiving) : IAsyncDisposable
    {
        public static async Task<Lane> OpenAsync(TemporaryDirectory temporary, PageReceiverOptions? options = null)
        {
            var pair = await ConnectedPair.OverSocketPairAsync();
            var receiver = new PageReceiver(pair.Destination.OpenChannel(ChannelId.Pages), options ?? new PageReceiverOptions());
            string directory = temporary.MakeDirectory("images");
            return new Lane(
                pair, receiver, new StandInForCriu(pair.Source.OpenChannel(ChannelId.Pages), PageServerFormat.Long), directory,
                receiver.ReceiveAsync(directory, default));
        }

        public async ValueTask DisposeAsync()
        {
            await Pair.DisposeAsync();
            await ((Task)Receiving).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            Criu.Dispose();
            Receiver.Dispose();
        }
    }
}

/// <summary>A range as an iteration sends it.</summary>
internal sealed record SentRange(ulong Address, int Pages, PagemapFlags Flags, byte[]? Content = null);

/// <summary>Sends what CRIU would, in frames of chance sizes.</summary>
internal sealed class StandInForCriu(PhaulChannel channel, PageServerFormat format) : IDisposable
{
    private const int PageSize = 4096;

    private readonly SequenceReader _answers = new(channel);

    public long BytesSent { get; private set; }

    public async Task<bool> OpenAsync(PageOwner owner)
    {
        await WriteAsync(new PageServerHeader(PageServerCommand.OpenAndAnswer, 0, 0, 0, owner.OnWire));
        return (await ReadAsync(1))[0] != 0;
    }

    public async Task<int> AskForParentAsync(PageOwner owner)
    {
        await WriteAsync(new PageServerHeader(PageServerCommand.HasParent, 0, 0, 0, owner.OnWire));
        return BinaryPrimitives.ReadInt32LittleEndian(await ReadAsync(sizeof(int)));
    }

    public async Task SendAsync(PageOwner owner, IEnumerable<SentRange> ranges, Random random)
    {
        var stream = new MemoryStream();
        foreach (var range in ranges)
        {
            stream.Write(Compose(new PageServerHeader(PageServerCommand.AddWithFlags, range.Flags, (ulong)range.Pages, range.Address, owner.OnWire)));
            if (range.Flags.HasFlag(PagemapFlags.Present))
                stream.Write(range.Content ?? new byte[range.Pages * PageSize]);
        }

        var rest = stream.ToArray().AsMemory();
        while (rest.Length > 0)
        {
            int some = Math.Min(rest.Length, random.Next(1, random.Next(2) == 0 ? 100 : 100_000));
            await WriteBytesAsync(rest[..some]);
            rest = rest[some..];
        }
    }

    public async Task CloseAsync()
    {
        await WriteAsync(new PageServerHeader(PageServerCommand.ForceClose, 0, 0, 0, 0));
        Assert.Equal(new byte[sizeof(int)], await ReadAsync(sizeof(int)));
    }

    public Task WriteAsync(PageServerHeader header, byte[]? content = null) => WriteBytesAsync(new byte[][] { Compose(header), content ?? [] }.SelectMany(part => part).ToArray());

    public async Task EndAsync() => await channel.SendEndAsync();

    public void Dispose() => _answers.Dispose();

    private byte[] Compose(PageServerHeader header)
    {
        var bytes = new byte[(int)format];
        header.Write(bytes, format);
        Assert.Equal(header, PageServerHeader.Read(bytes, format));
        return bytes;
    }

    private async Task WriteBytesAsync(ReadOnlyMemory<byte> bytes)
    {
        BytesSent += bytes.Length;
        using var writer = new SequenceWriter(channel);
        await writer.WriteAsync(bytes, default);
        await writer.FlushAsync(default);
    }

    private async Task<byte[]> ReadAsync(int count)
    {
        var bytes = new byte[count];
        Assert.True(await _answers.ReadExactlyAsync(bytes, default));
        return bytes;
    }
}
