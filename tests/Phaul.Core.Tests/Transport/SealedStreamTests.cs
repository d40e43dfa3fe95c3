// Sealed records: what goes in comes out, and what was touched on its way does not.

using System.Net.Sockets;
using System.Security.Cryptography;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class SealedStreamTests
{
    private static byte[] Secret(byte fill = 7) => Enumerable.Repeat(fill, 2 * SealedStream.ContributionSize).ToArray();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task WritesOfAnySizeArriveInReadsOfAnySize(int seed)
    {
        await using Pair pair = await Pair.OpenAsync();
        var random = new Random(seed);
        byte[] sent = RandomNumberGenerator.GetBytes(3 << 20);
        var received = new byte[sent.Length];
        Task writing = Task.Run(async () =>
        {
            for (int offset = 0; offset < sent.Length;)
            {
                int length = Math.Min(Size(random), sent.Length - offset);
                await pair.One.WriteAsync(sent.AsMemory(offset, length));
                await pair.One.FlushAsync();
                offset += length;
            }
        });
        var sizes = new Random(seed + 100);
        for (int offset = 0; offset < received.Length;)
        {
            int length = Math.Min(Size(sizes), received.Length - offset);
            await pair.Other.ReadExactlyAsync(received.AsMemory(offset, length)).Within();
            offset += length;
        }

        await writing.Within();
        Assert.Equal(sent, received);

        static int Size(Random random) => random.Next(4) switch { 0 => random.Next(1, 20), 1 => random.Next(1, 5000), _ => random.Next(1, 300_000) };
    }

    [Theory]
    [InlineData(0)] // the length
    [InlineData(4)] // the content
    [InlineData(-1)] // the tag
    public async Task WhatWasChangedIsNotGivenOut(int at)
    {
        await using Pair pair = await Pair.OpenAsync(record =>
        {
            record[at < 0 ? record.Length + at : at] ^= 1;
            return [record];
        });
        await pair.One.WriteAsync(new byte[100]);
        await pair.One.FlushAsync();
        pair.CloseWire();
        await Assert.ThrowsAnyAsync<Exception>(async () => await pair.Other.ReadExactlyAsync(new byte[99]).Within());
    }

    [Fact]
    public async Task ARecordThatComesTwiceOrTooLateIsRefused()
    {
        byte[]? first = null;
        await using Pair pair = await Pair.OpenAsync(record =>
        {
            if (first is null)
            {
                first = record;
                return [record, record];
            }

            return [record];
        });
        await pair.One.WriteAsync(new byte[10]);
        await pair.One.FlushAsync();
        await pair.Other.ReadExactlyAsync(new byte[10]).Within();
        PhaulException refused = await Assert.ThrowsAsync<PhaulException>(async () => await pair.Other.ReadExactlyAsync(new byte[10]));
        Assert.Equal(PhaulErrorId.ProtocolError, refused.ErrorId);
    }

    [Fact]
    public async Task SidesWithDifferentSecretsDoNotMeet()
    {
        (Socket one, Socket other) = SocketPair.CreateStream();
        await using var initiator = new CarrierStream(one);
        await using var responder = new CarrierStream(other);
        Task<SealedStream> opening = SealedStream.OpenAsync(initiator, ConnectionRole.Initiator, Secret(1), default);
        PhaulException refused = await Assert.ThrowsAsync<PhaulException>(
            () => SealedStream.OpenAsync(responder, ConnectionRole.Responder, Secret(2), default).Within());
        Assert.Equal(PhaulErrorId.ProtocolError, refused.ErrorId);
        await (await opening).DisposeAsync();
    }

    [Fact]
    public async Task AConnectionOverTlsIsSealedAndOneWithoutIsNot()
    {
        await using ConnectedPair over = await ConnectedPair.OverTlsAsync();
        await using ConnectedPair without = await ConnectedPair.OverSocketPairAsync();
        Assert.True(over.Source.IsSealed && over.Destination.IsSealed);
        Assert.False(without.Source.IsSealed || without.Destination.IsSealed);
    }

    /// <summary>Two ends, and between them a wire that can change what passes from one to the other.</summary>
    private sealed record Pair(SealedStream One, SealedStream Other, CarrierStream[] Carriers, Socket[] Wire, Task Passing) : IAsyncDisposable
    {
        public static async Task<Pair> OpenAsync(Func<byte[], byte[][]>? change = null)
        {
            (Socket one, Socket wireOne) = SocketPair.CreateStream();
            (Socket other, Socket wireOther) = SocketPair.CreateStream();
            CarrierStream[] carriers = [new(one), new(other)];
            Task passing = PassAsync(wireOne, wireOther, change ?? (record => [record]));
            Task<SealedStream> initiator = SealedStream.OpenAsync(carriers[0], ConnectionRole.Initiator, Secret(), default);
            Task<SealedStream> responder = SealedStream.OpenAsync(carriers[1], ConnectionRole.Responder, Secret(), default);
            await Task.WhenAll(initiator, responder).Within();
            return new Pair(await initiator, await responder, carriers, [wireOne, wireOther], passing);
        }

        public void CloseWire() => Wire[0].Shutdown(SocketShutdown.Receive);

        public async ValueTask DisposeAsync()
        {
            await One.DisposeAsync();
            await Other.DisposeAsync();
            foreach (CarrierStream carrier in Carriers)
                await carrier.DisposeAsync();
            await Passing.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            foreach (Socket end in Wire)
                end.Dispose();
        }

        // The first record, which opens the stream, passes as it is
        private static async Task PassAsync(Socket from, Socket to, Func<byte[], byte[][]> change)
        {
            await using var source = new NetworkStream(from);
            for (bool opened = false; ; opened = true)
            {
                var length = new byte[sizeof(uint)];
                if (await source.ReadAtLeastAsync(length, length.Length, throwOnEndOfStream: false) < length.Length)
                    break;
                byte[] record = [.. length, .. new byte[BitConverter.ToUInt32(length) + 16]];
                await source.ReadExactlyAsync(record.AsMemory(sizeof(uint)));
                foreach (byte[] passed in opened ? change(record) : [record])
                    await to.SendAsync(passed);
            }

            to.Shutdown(SocketShutdown.Send);
        }
    }
}
