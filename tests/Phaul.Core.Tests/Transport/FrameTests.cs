// What is on the wire: frames that do not exist end the connection, whatever else is in them.

using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf.WellKnownTypes;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class FrameTests
{
    public static TheoryData<string, byte[]> Violations => new()
    {
        { "unknown channel", RawPeer.Frame(4, FrameKind.Data, [1]) },
        { "unknown channel", RawPeer.Frame(255, FrameKind.Data, [1]) },
        { "kind 0", RawPeer.Frame(1, 0, []) },
        { "kind 99", RawPeer.Frame(0, (FrameKind)99, []) },
        { "kind 4", RawPeer.Frame(1, FrameKind.Ping, new byte[8]) },
        { "kind 3", RawPeer.Frame(0, FrameKind.Credit, new byte[4]) },
        { "kind 2", RawPeer.Frame(0, FrameKind.End, []) },
        { "reserved", RawPeer.Frame(1, FrameKind.Data, [1], reserved: 1) },
        { "0 bytes", RawPeer.Frame(1, FrameKind.Data, []) },
        { "262145 bytes", RawPeer.Frame(1, FrameKind.Data, [1], length: (256 << 10) + 1) },
        { "4294967295 bytes", RawPeer.Frame(1, FrameKind.Data, [1], length: uint.MaxValue) },
        { "1048577 bytes", RawPeer.Frame(0, FrameKind.Data, [1], length: (1 << 20) + 1) },
        { "1 bytes", RawPeer.Frame(2, FrameKind.End, [1]) },
        { "7 bytes", RawPeer.Frame(0, FrameKind.Ping, new byte[7]) },
        { "after the handshake", RawPeer.Frame(0, FrameKind.Hello, []) },
        { "a credit of 0", RawPeer.Frame(1, FrameKind.Credit, new byte[4]) },
        { "a credit of 1 ", RawPeer.Frame(1, FrameKind.Credit, [1, 0, 0, 0]) },
    };

    [Theory]
    [MemberData(nameof(Violations))]
    public async Task AViolationEndsTheConnectionAndIsNamed(string named, byte[] frame)
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        Task<ReceivedFrame> pending = peer.Connection.OpenChannel(ChannelId.Files).ReceiveAsync().AsTask();

        await peer.SendAsync(frame);

        PhaulException fault = await peer.FaultAsync();
        Assert.Equal(PhaulErrorId.ProtocolError, fault.ErrorId);
        Assert.Contains(named, fault.Message, StringComparison.Ordinal);
        Assert.False(peer.Connection.ClosedByPeer);
        var thrown = await Assert.ThrowsAsync<PhaulException>(() => pending.Within());
        Assert.Equal(fault.Message, thrown.Message);
    }

    [Fact]
    public async Task WhateverBytesComeTheConnectionEndsWithAReason()
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        for (int round = 0; round < 200; round++)
        {
            await using RawPeer peer = await RawPeer.ConnectAsync();
            byte[] bytes = round % 2 == 0 ? Garbage(random) : Damaged(random);
            await peer.TrySendAsync(bytes);
            peer.HangUp();

            PhaulException fault = await peer.FaultAsync();
            Assert.True(fault.ErrorId is PhaulErrorId.ProtocolError or PhaulErrorId.ConnectionLost, $"seed {seed}, round {round}: {fault}");
            while (true)
            {
                // What came before the damage is given out, then comes the fault.
                try
                {
                    using ReceivedFrame frame = await peer.Connection.OpenChannel(ChannelId.Pages).ReceiveAsync().Within();
                }
                catch (PhaulException exception)
                {
                    Assert.Equal(fault.ErrorId, exception.ErrorId);
                    break;
                }
            }
        }
    }

    [Fact]
    public async Task MoreThanTheWindowIsAViolation()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync(new ConnectionOptions { Window = 1 << 20 });
        byte[] frame = RawPeer.Frame(1, FrameKind.Data, new byte[256 << 10]);
        for (int i = 0; i < 3; i++)
            await peer.SendAsync(frame);
        await peer.SendAsync(RawPeer.Frame(0, FrameKind.Ping, new byte[8]));
        Assert.Equal(FrameKind.Pong, (await peer.ReadFrameAsync()).Kind);
        Assert.Null(peer.Connection.Fault);

        await peer.TrySendAsync(frame);

        PhaulException fault = await peer.FaultAsync();
        Assert.Equal(PhaulErrorId.ProtocolError, fault.ErrorId);
        Assert.Contains("window", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TinyFramesAreBoundedByTheWindow()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync(new ConnectionOptions { Window = 1 << 20 });
        byte[] tiny = [.. Enumerable.Repeat(RawPeer.Frame(1, FrameKind.Data, [7]), 5000).SelectMany(frame => frame)];

        await peer.TrySendAsync(tiny);

        Assert.Contains("window", (await peer.FaultAsync()).Message, StringComparison.Ordinal);
        Assert.InRange(peer.Connection.OpenChannel(ChannelId.Pages).BytesReceived, 1, (1 << 20) / 256);
    }

    [Fact]
    public async Task ControlMessagesThatNobodyAwaitsAreBounded()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        for (int i = 0; i < 65; i++)
            await peer.TrySendAsync(RawPeer.Frame(0, FrameKind.Data, []));

        Assert.Contains("over 64 control messages", (await peer.FaultAsync()).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AControlMessageThatCannotBeReadEndsTheConnection()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        await peer.SendAsync(RawPeer.Frame(0, FrameKind.Data, [0xff, 0xff, 0xff]));

        var thrown = await Assert.ThrowsAsync<PhaulException>(() => peer.Connection.ReceiveControlAsync(StringValue.Parser).Within());

        Assert.Equal(PhaulErrorId.ProtocolError, thrown.ErrorId);
        Assert.Equal(PhaulErrorId.ProtocolError, peer.Connection.Fault?.ErrorId);
    }

    [Fact]
    public async Task ControlMessagesHaveABoundWhenSentToo()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        var message = new StringValue { Value = new string('x', 1 << 20) };

        var thrown = await Assert.ThrowsAsync<PhaulException>(() => pair.Source.SendControlAsync(message).Within());

        Assert.Equal(PhaulErrorId.ProtocolError, thrown.ErrorId);
        Assert.Null(pair.Source.Fault);
    }

    [Fact]
    public async Task EveryChannelCarriesItsSequencesBothWaysUnmixed()
    {
        int seed = Environment.TickCount;
        await using ConnectedPair pair = await ConnectedPair.OverTlsAsync();
        ChannelId[] channels = [ChannelId.Pages, ChannelId.Images, ChannelId.Files];
        var work = new List<Task>();
        foreach (ChannelId id in channels)
        {
            foreach ((PhaulConnection from, PhaulConnection to) in (IEnumerable<(PhaulConnection, PhaulConnection)>)
                [(pair.Source, pair.Destination), (pair.Destination, pair.Source)])
            {
                var random = new Random(HashCode.Combine(seed, id, ReferenceEquals(from, pair.Source)));
                work.Add(CheckSequencesAsync(from.OpenChannel(id), to.OpenChannel(id), random, $"seed {seed}, {id}"));
            }
        }

        await Task.WhenAll(work).Within();
        // Sealed totals agree on both sides: everything sent was received, framing included.
        Assert.Equal(
            channels.Sum(id => pair.Source.OpenChannel(id).BytesSent), channels.Sum(id => pair.Destination.OpenChannel(id).BytesReceived));
    }

    private static async Task CheckSequencesAsync(PhaulChannel from, PhaulChannel to, Random random, string where)
    {
        for (int sequence = 0; sequence < 5; sequence++)
        {
            int frames = random.Next(0, 60);
            Task<byte[]> received = ReceiveAsync(to);
            using var sent = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            for (int i = 0; i < frames; i++)
            {
                PooledFrame frame = from.RentFrame();
                int length = random.Next(4) == 0 ? random.Next(1, 32) : random.Next(1, PooledFrame.Capacity + 1);
                random.NextBytes(frame.Payload.Span[..length]);
                sent.AppendData(frame.Payload.Span[..length]);
                await from.SendAsync(frame, length);
            }

            await from.SendEndAsync();
            byte[] arrived = await received.Within();
            Assert.True(sent.GetHashAndReset().SequenceEqual(arrived), $"{where}, sequence {sequence}");
        }
    }

    private static async Task<byte[]> ReceiveAsync(PhaulChannel channel)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        while (true)
        {
            using ReceivedFrame frame = await channel.ReceiveAsync();
            if (frame.IsEnd)
                return hash.GetHashAndReset();
            hash.AppendData(frame.Payload.Span);
        }
    }

    private static byte[] Garbage(Random random)
    {
        var bytes = new byte[random.Next(0, 4096)];
        random.NextBytes(bytes);
        return bytes;
    }

    // Valid frames, one bit of which is wrong, perhaps cut short.
    private static byte[] Damaged(Random random)
    {
        var bytes = new List<byte>();
        for (int i = random.Next(1, 8); i > 0; i--)
        {
            var payload = new byte[random.Next(1, 300)];
            random.NextBytes(payload);
            bytes.AddRange(RawPeer.Frame((byte)random.Next(1, 4), FrameKind.Data, payload));
        }

        byte[] damaged = [.. bytes];
        damaged[random.Next(damaged.Length)] ^= (byte)(1 << random.Next(8));
        return damaged[..random.Next(1, damaged.Length + 1)];
    }
}
