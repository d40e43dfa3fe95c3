// Credit: a consumer that does not consume stops its own channel and nothing else.

using Google.Protobuf.WellKnownTypes;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class FlowControlTests
{
    private const int Window = 1 << 20;

    [Fact]
    public async Task AStalledChannelBlocksNeitherControlNorOtherChannels()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(destination: new ConnectionOptions { Window = Window });
        PhaulChannel pages = pair.Source.OpenChannel(ChannelId.Pages);
        PhaulChannel stalled = pair.Destination.OpenChannel(ChannelId.Pages);
        const long Total = 5L * Window;
        Task sending = SendAsync(pages, Total);
        // Nobody takes pages; the sender comes to the end of its credit. Until then control and images work, and after, too.
        await UntilAsync(() => stalled.BytesReceived > Window - (300 << 10));

        for (int i = 0; i < 100; i++)
        {
            await pair.Source.SendControlAsync(new Int32Value { Value = i }).Within();
            Assert.Equal(i, (await pair.Destination.ReceiveControlAsync(Int32Value.Parser).Within()).Value);
            await pair.Destination.SendControlAsync(new Int32Value { Value = -i }).Within();
            Assert.Equal(-i, (await pair.Source.ReceiveControlAsync(Int32Value.Parser).Within()).Value);
        }

        Task images = SendAsync(pair.Source.OpenChannel(ChannelId.Images), Total);
        Assert.Equal(Total, await ReceiveAsync(pair.Destination.OpenChannel(ChannelId.Images)).Within());
        await images.Within();
        Assert.False(sending.IsCompleted);
        Assert.InRange(stalled.BytesReceived, 1, Window);

        // The consumer comes back: everything arrives.
        Assert.Equal(Total, await ReceiveAsync(stalled).Within());
        await sending.Within();
        Assert.Equal(Total, pages.BytesSent);
    }

    [Fact]
    public async Task WaitingForCreditCanBeCancelledAndTheConnectionLivesOn()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(destination: new ConnectionOptions { Window = Window });
        PhaulChannel pages = pair.Source.OpenChannel(ChannelId.Pages);
        using var cancel = new CancellationTokenSource();
        Task sending = SendAsync(pages, 5L * Window, cancel.Token);
        await UntilAsync(() => pair.Destination.OpenChannel(ChannelId.Pages).BytesReceived > Window - (300 << 10));

        await cancel.CancelAsync();

        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => sending.Within());
        await pair.Source.SendControlAsync(new StringValue { Value = "still here" }).Within();
        Assert.Equal("still here", (await pair.Destination.ReceiveControlAsync(StringValue.Parser).Within()).Value);
    }

    [Fact]
    public async Task ASenderThatWaitsForCreditFailsWithTheConnection()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(destination: new ConnectionOptions { Window = Window });
        Task sending = SendAsync(pair.Source.OpenChannel(ChannelId.Pages), 5L * Window);
        await UntilAsync(() => pair.Destination.OpenChannel(ChannelId.Pages).BytesReceived > Window - (300 << 10));

        await pair.Destination.DisposeAsync();

        var thrown = await Assert.ThrowsAsync<PhaulException>(() => sending.Within());
        Assert.Equal(PhaulErrorId.ConnectionLost, thrown.ErrorId);
        Assert.True(pair.Source.ClosedByPeer);
    }

    [Fact]
    public async Task TwoSendsOnOneChannelAtOnceAreAMistake()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(destination: new ConnectionOptions { Window = Window });
        PhaulChannel pages = pair.Source.OpenChannel(ChannelId.Pages);
        Task sending = SendAsync(pages, 5L * Window);
        await UntilAsync(() => pair.Destination.OpenChannel(ChannelId.Pages).BytesReceived > Window - (300 << 10));
        Assert.False(sending.IsCompleted);

        await Assert.ThrowsAsync<InvalidOperationException>(() => pages.SendEndAsync().AsTask());

        await pair.Source.DisposeAsync();
        await Assert.ThrowsAsync<PhaulException>(() => sending.Within());
    }

    internal static async Task SendAsync(PhaulChannel channel, long total, CancellationToken cancellationToken = default)
    {
        while (total > 0)
        {
            int length = (int)Math.Min(total, PooledFrame.Capacity);
            await channel.SendAsync(channel.RentFrame(), length, cancellationToken);
            total -= length;
        }

        await channel.SendEndAsync(cancellationToken);
    }

    internal static async Task<long> ReceiveAsync(PhaulChannel channel)
    {
        long total = 0;
        while (true)
        {
            using ReceivedFrame frame = await channel.ReceiveAsync();
            if (frame.IsEnd)
                return total;
            total += frame.Payload.Length;
        }
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(Failsafe.Time);
        while (!condition())
            await Task.Delay(1, limit.Token);
    }
}
