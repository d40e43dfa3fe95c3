// Pairs of UNIX sockets: streams for .NET's Socket, packets for our own.
using System.Text;
using Phaul.Native;

namespace Phaul.Tests.Native;

public sealed class SocketTests
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task A_stream_pair_works_both_ways_and_ends()
    {
        var (first, second) = SocketPair.CreateStream(256 * 1024);
        Assert.True(first.Connected && second.Connected);
        var data = new byte[4 << 20];
        new Random(1).NextBytes(data);
        var sending = Task.Run(async () =>
        {
            for (var sent = 0; sent < data.Length;) sent += await first.SendAsync(data.AsMemory(sent));
            first.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        });
        var received = new MemoryStream();
        var buffer = new byte[65536];
        for (int length; (length = await second.ReceiveAsync(buffer)) > 0;) received.Write(buffer, 0, length);
        await sending.WaitAsync(Failsafe);
        Assert.Equal(data, received.ToArray());
        await second.SendAsync(new byte[] { 9 });
        Assert.Equal(1, await first.ReceiveAsync(buffer));
        first.Dispose();
        second.Dispose();
    }

    [Fact]
    public async Task Packets_keep_their_boundaries_and_tell_that_they_were_cut()
    {
        using var pair = new PacketPair();
        await pair.First.SendAsync("one"u8.ToArray(), default);
        await pair.First.SendAsync(new byte[1000], default);
        var buffer = new byte[100];
        Assert.Equal(3, pair.Second.TryReceive(buffer, out _));
        Assert.Equal("one", Encoding.ASCII.GetString(buffer, 0, 3));
        Assert.Equal(1000, pair.Second.TryReceive(buffer, out _));
        Assert.Null(pair.Second.TryReceive(buffer, out _));
        pair.First.Dispose();
        Assert.Equal(0, pair.Second.TryReceive(buffer, out _));
    }

    [Fact]
    public async Task A_sender_waits_for_room()
    {
        using var pair = new PacketPair();
        const int count = 200;
        var sending = Task.Run(async () =>
        {
            for (var i = 0; i < count; i++) await pair.First.SendAsync(new byte[10_000 + i], default);
        });
        var buffer = new byte[20_000];
        for (var i = 0; i < count;)
        {
            if (pair.Second.TryReceive(buffer, out _) is { } length) Assert.Equal(10_000 + i++, length);
            else await DescriptorWaiter.WaitReadableAsync(pair.Second.Descriptor, default).WaitAsync(Failsafe);
        }
        await sending.WaitAsync(Failsafe);
    }

    [Fact]
    public async Task Sending_to_nobody_is_an_error_and_no_signal()
    {
        using var pair = new PacketPair();
        pair.Second.Dispose();
        Assert.Equal(Libc.Epipe, (await Assert.ThrowsAsync<NativeException>(() => pair.First.SendAsync(new byte[1], default))).Errno);
    }

    [Theory]
    [InlineData("")]
    [InlineData("/a/path/that/is/longer/than/any/socket/address/may/be/which/is/one/hundred/and/seven/bytes/and/then/the/terminating/zero")]
    public void An_address_that_cannot_be_is_refused(string path) => Assert.Throws<ArgumentException>(() => PacketSocket.Connect(path));

    private sealed class PacketPair : IDisposable
    {
        public PacketPair()
        {
            (First, var second) = SocketPair.CreatePacket();
            Second = new PacketSocket(second);
        }

        public PacketSocket First { get; }

        public PacketSocket Second { get; }

        public void Dispose()
        {
            First.Dispose();
            Second.Dispose();
        }
    }
}
