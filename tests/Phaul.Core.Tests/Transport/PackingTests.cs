// Frames that are packed on their way: the same bytes arrive, and fewer of them were sent where that is worth while.

using System.Text;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class PackingTests
{
    private static readonly byte[] Text = Encoding.ASCII.GetBytes(string.Concat(Enumerable.Range(0, 40_000).Select(i => $"word {i * 7919 % 97} ")));

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task WhatArrivesIsWhatWasSent(int seed)
    {
        await using var pair = await ConnectedPair.OverSocketPairAsync();
        var (source, destination) = (pair.Source.OpenChannel(ChannelId.Pages), pair.Destination.OpenChannel(ChannelId.Pages));
        source.Packer = new FramePacker(always: true);
        var random = new Random(seed);
        var sent = Enumerable.Range(0, 40).Select(_ => Some(random)).ToArray();
        var sending = Task.Run(async () =>
        {
            foreach (var payload in sent)
                await SendAsync(source, payload);
            await source.SendEndAsync();
        });
        foreach (var payload in sent)
        {
            using var frame = await destination.ReceiveAsync().Within();
            Assert.True(payload.AsSpan().SequenceEqual(frame.Payload.Span));
        }

        using var end = await destination.ReceiveAsync().Within();
        Assert.True(end.IsEnd);
        await sending.Within();
        Assert.InRange(source.BytesSent, 1, sent.Sum(payload => (long)payload.Length));
        Assert.Equal(source.BytesSent, destination.BytesReceived);
    }

    [Fact]
    public async Task WhatDoesNotBecomeShorterGoesAsItIs()
    {
        var noise = new byte[100_000];
        new Random(1).NextBytes(noise);
        Assert.Equal(noise.Length, await BytesSentOfAsync(noise, always: true));
    }

    [Fact]
    public async Task ZerosAreNeverSent() => Assert.InRange(await BytesSentOfAsync(new byte[200_000], always: false), 1, 2_000);

    [Theory]
    [InlineData("nothing", new byte[] { 0, 0, 0, 0, 1 })]
    [InlineData("more than a frame", new byte[] { 1, 0, 4, 0, 1 })]
    [InlineData("not a block", new byte[] { 200, 0, 0, 0, 0xff, 0xff, 0xff })]
    public void WhatIsDamagedIsRefused(string why, byte[] packed)
    {
        var error = Assert.Throws<PhaulException>(() => Lz4Block.Unpack(packed, new byte[Lz4Block.LengthOf(packed)]));
        Assert.True(error.ErrorId == PhaulErrorId.ProtocolError, why);
    }

    /// <summary>Links and processors of all kinds, and memory that changes on the way: never much slower than the better of the fixed choices.</summary>
    [Theory]
    [InlineData(false, 1.1)]
    [InlineData(true, 1.25)]
    public void ItIsHardlyEverSlowerThanTheBetterChoice(bool changes, double most)
    {
        for (var seed = 0; seed < 500; seed++)
        {
            var random = new Random(seed);
            var link = Math.Pow(10, 6 + (random.NextDouble() * 3.5));
            var secondsPerByte = Math.Pow(10, -8.3 - (random.NextDouble() * 1.2));
            var first = 0.1 + (random.NextDouble() * 0.9);
            var second = changes ? 0.1 + (random.NextDouble() * 0.9) : first;
            var policy = new PackingPolicy();
            double chosen = 0, plain = 0, packed = 0;
            const int windows = 600;
            for (var window = 0; window < windows; window++)
            {
                var ratio = window < windows / 2 ? first : second;
                var (asItIs, shorter) = (1 / link, Math.Max(secondsPerByte, ratio / link));
                var took = policy.Packs ? shorter : asItIs;
                policy.Observe(1 << 20, TimeSpan.FromSeconds(took * (1 << 20) * (0.98 + (random.NextDouble() * 0.04))));
                (chosen, plain, packed) = (chosen + took, plain + asItIs, packed + shorter);
            }

            Assert.True(chosen <= Math.Min(plain, packed) * most, $"seed {seed}: {chosen / Math.Min(plain, packed):0.00} of the better");
        }
    }

    private static byte[] Some(Random random)
    {
        var payload = new byte[random.Next(1, PooledFrame.Capacity)];
        switch (random.Next(4))
        {
            case 0:
                random.NextBytes(payload);
                break;
            case 1:
                Text.AsSpan(random.Next(1000), Math.Min(payload.Length, Text.Length - 1000)).CopyTo(payload);
                break;
            case 2:
                random.NextBytes(payload.AsSpan(0, payload.Length / 2));
                break;
        }

        return payload;
    }

    private static async Task<long> BytesSentOfAsync(byte[] payload, bool always)
    {
        await using var pair = await ConnectedPair.OverSocketPairAsync();
        var source = pair.Source.OpenChannel(ChannelId.Pages);
        source.Packer = new FramePacker(always);
        await SendAsync(source, payload).Within();
        return source.BytesSent;
    }

    private static async Task SendAsync(PhaulChannel channel, byte[] payload)
    {
        var frame = channel.RentFrame();
        payload.CopyTo(frame.Payload);
        await channel.SendAsync(frame, payload.Length);
    }
}
