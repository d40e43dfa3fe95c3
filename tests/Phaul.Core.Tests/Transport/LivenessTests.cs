// How a connection ends: a silent peer, a peer that does not read, a lost link, and a goodbye; each told from the others.

using System.Net.Sockets;
using Google.Protobuf.WellKnownTypes;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class LivenessTests
{
    // Where the peer is to be lost, the sooner the better; where it must not be, a busy machine needs time to answer.
    private static readonly ConnectionOptions Impatient = new() { PeerTimeout = TimeSpan.FromMilliseconds(600) };
    private static readonly ConnectionOptions Patient = new() { PeerTimeout = TimeSpan.FromSeconds(3) };

    [Fact]
    public async Task APeerThatFallsSilentIsTakenForLost()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync(Impatient);
        Task<Int32Value> pending = peer.Connection.ReceiveControlAsync(Int32Value.Parser);

        PhaulException fault = await peer.FaultAsync();

        Assert.Equal(PhaulErrorId.ConnectionLost, fault.ErrorId);
        Assert.Matches(@"silent for 0\.[6-9] s", fault.Message);
        Assert.False(peer.Connection.ClosedByPeer);
        Assert.Equal(fault.Message, (await Assert.ThrowsAsync<PhaulException>(() => pending.Within())).Message);
        Assert.Equal(FrameKind.Ping, (await peer.ReadFrameAsync()).Kind);
    }

    [Fact]
    public async Task APeerThatAnswersPingsLives()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync(Patient);

        // Three pings fall into a time-out: after six the peer would long be lost if the answers did not count.
        for (int i = 0; i < 6; i++)
        {
            (byte channel, FrameKind kind, byte[] payload) = await peer.ReadFrameAsync();
            Assert.Equal((0, FrameKind.Ping), (channel, kind));
            await peer.SendAsync(RawPeer.Frame(0, FrameKind.Pong, payload));
        }

        Assert.Null(peer.Connection.Fault);
    }

    [Fact]
    public async Task TheMorePatientSideSpeaksOftenEnoughForTheOther()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(
            Patient, new ConnectionOptions { PeerTimeout = TimeSpan.FromHours(1) });
        long before = pair.Source.BytesReceived;

        // Only the connection's own frames move: ten of them take more than the impatient side's time-out.
        using var limit = new CancellationTokenSource(Failsafe.Time);
        while (pair.Source.BytesReceived < before + (10 * 16))
            await Task.Delay(5, limit.Token);

        Assert.Null(pair.Source.Fault);
        Assert.Null(pair.Destination.Fault);
    }

    [Fact]
    public async Task APeerThatTalksButDoesNotReadIsTakenForLost()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync(Impatient);
        Task sending = FlowControlTests.SendAsync(peer.Connection.OpenChannel(ChannelId.Pages), 8 << 20);
        Task closed = RawPeer.ClosedAsync(peer.Connection);
        while (!closed.IsCompleted)
        {
            await peer.TrySendAsync(RawPeer.Frame(0, FrameKind.Pong, new byte[8]));
            await Task.WhenAny(closed, Task.Delay(20));
        }

        PhaulException fault = await peer.FaultAsync();
        Assert.Equal(PhaulErrorId.ConnectionLost, fault.ErrorId);
        Assert.Contains("taken nothing", fault.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<PhaulException>(() => sending.Within());
    }

    [Fact]
    public async Task AnyStreamCanCarryAConnectionAndASilentOneIsLeft()
    {
        (Socket one, Socket other) = SocketPair.CreateStream();
        await using var deaf = new PausableStream(new NetworkStream(other, true));
        await using ConnectedPair pair = await ConnectedPair.OverStreamsAsync(new NetworkStream(one, true), deaf, destination: Impatient);
        await pair.Source.SendControlAsync(new StringValue { Value = "hello" }).Within();
        Assert.Equal("hello", (await pair.Destination.ReceiveControlAsync(StringValue.Parser).Within()).Value);

        deaf.Pause();

        await RawPeer.ClosedAsync(pair.Destination).Within();
        Assert.Contains("silent", pair.Destination.Fault!.Message, StringComparison.Ordinal);
        // Its reads cannot be cancelled; nevertheless it can be disposed.
        await pair.Destination.DisposeAsync().Within();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AGoodbyeIsToldFromALostLinkAndTheLastMessageArrives(bool tls)
    {
        await using ConnectedPair pair = tls ? await ConnectedPair.OverTlsAsync() : await ConnectedPair.OverSocketPairAsync();
        // Data under way to the side that leaves must not undo its last words.
        Task sending = FlowControlTests.SendAsync(pair.Destination.OpenChannel(ChannelId.Pages), 4 << 20);
        await pair.Source.SendControlAsync(new StringValue { Value = "last words" }).Within();
        await pair.Source.DisposeAsync().Within();

        Assert.Equal("last words", (await pair.Destination.ReceiveControlAsync(StringValue.Parser).Within()).Value);
        var thrown = await Assert.ThrowsAsync<PhaulException>(() => pair.Destination.ReceiveControlAsync(StringValue.Parser).Within());
        Assert.Equal(PhaulErrorId.ConnectionLost, thrown.ErrorId);
        Assert.Contains("ended the connection", thrown.Message, StringComparison.Ordinal);
        Assert.True(pair.Destination.ClosedByPeer);
        Assert.True(pair.Destination.Closed.IsCancellationRequested);
        await sending.ContinueWith(_ => { }, TaskScheduler.Default).Within();
    }

    [Fact]
    public async Task AHangUpWithoutGoodbyeIsALostLink()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        peer.HangUp();

        PhaulException fault = await peer.FaultAsync();

        Assert.Equal(PhaulErrorId.ConnectionLost, fault.ErrorId);
        Assert.Contains("without saying goodbye", fault.Message, StringComparison.Ordinal);
        Assert.False(peer.Connection.ClosedByPeer);
    }

    [Fact]
    public async Task EverythingPendingFailsWithTheFault()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        Task[] pending =
        [
            peer.Connection.ReceiveControlAsync(StringValue.Parser),
            peer.Connection.OpenChannel(ChannelId.Pages).ReceiveAsync().AsTask(),
            peer.Connection.OpenChannel(ChannelId.Images).ReceiveAsync().AsTask(),
            // Nobody reads at the other end: these wait for the stream and behind each other.
            FlowControlTests.SendAsync(peer.Connection.OpenChannel(ChannelId.Pages), 4 << 20),
            FlowControlTests.SendAsync(peer.Connection.OpenChannel(ChannelId.Images), 4 << 20),
            FlowControlTests.SendAsync(peer.Connection.OpenChannel(ChannelId.Files), 4 << 20),
        ];
        peer.HangUp();

        foreach (Task task in pending)
            Assert.Equal(PhaulErrorId.ConnectionLost, (await Assert.ThrowsAsync<PhaulException>(() => task.Within())).ErrorId);
        await Assert.ThrowsAsync<PhaulException>(() => peer.Connection.SendControlAsync(new StringValue()).Within());
    }

    [Fact]
    public async Task DisposingTwiceAndFromBothSidesAtOnceIsFine()
    {
        ConnectedPair pair = await ConnectedPair.OverTlsAsync();

        await Task.WhenAll(
            pair.Source.DisposeAsync().AsTask(), pair.Source.DisposeAsync().AsTask(),
            pair.Destination.DisposeAsync().AsTask(), pair.Destination.DisposeAsync().AsTask()).Within();

        Assert.NotNull(pair.Source.Fault);
        await Assert.ThrowsAsync<PhaulException>(() => pair.Source.SendControlAsync(new StringValue()).Within());
    }

    /// <summary>A stream that can fall silent, and whose reads then neither end nor can be cancelled, as those of a pipe may be.</summary>
    private sealed class PausableStream(Stream inner) : Stream
    {
        private readonly TaskCompletionSource _never = new();
        private volatile bool _paused;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public void Pause() => _paused = true;

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var read = new byte[buffer.Length];
            int count = await inner.ReadAsync(read, CancellationToken.None);
            if (_paused)
                await _never.Task;
            read.AsMemory(0, count).CopyTo(buffer);
            return count;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            inner.WriteAsync(buffer, CancellationToken.None);

        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Flush() => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
            inner.Dispose();
            base.Dispose(disposing);
        }
    }
}
