// The page relay between two stand-ins for CRIU: every byte arrives, in order, and every end is seen.

using System.Net.Sockets;
using System.Security.Cryptography;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class PageRelayTests
{
    [Fact]
    public async Task EveryByteArrivesInBothDirectionsWhateverTheChunks()
    {
        int seed = Environment.TickCount;
        await using ConnectedPair pair = await ConnectedPair.OverTlsAsync();
        await using var side = new Ends(pair);
        side.Start();

        Task<(long Length, byte[] Hash)> there = WriteAsync(side.Source, new Random(seed), 24 << 20);
        Task<(long Length, byte[] Hash)> back = WriteAsync(side.Destination, new Random(seed + 1), 8 << 20);
        Task<(long Length, byte[] Hash)> arrivedThere = ReadAsync(side.Destination, new Random(seed + 2));
        Task<(long Length, byte[] Hash)> arrivedBack = ReadAsync(side.Source, new Random(seed + 3));
        await Task.WhenAll(there, back, arrivedThere, arrivedBack).Within();
        await side.CompletionAsync().Within();

        Same(await there, await arrivedThere, seed);
        Same(await back, await arrivedBack, seed);
        Assert.Equal((await there).Length, side.SourceRelay.BytesToPeer);
        Assert.Equal((await there).Length, side.DestinationRelay.BytesFromPeer);
        Assert.Equal((await back).Length, side.SourceRelay.BytesFromPeer);
        Assert.Equal((await back).Length, side.DestinationRelay.BytesToPeer);
    }

    [Fact]
    public async Task OneRelayAfterAnotherUsesTheSameChannel()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        for (int iteration = 0; iteration < 5; iteration++)
        {
            await using var side = new Ends(pair);
            side.Start();
            Task<(long Length, byte[] Hash)> sent = WriteAsync(side.Source, new Random(iteration), 1 << 20);
            Task<(long Length, byte[] Hash)> received = ReadAsync(side.Destination, new Random(iteration));
            Same(await sent.Within(), await received.Within(), iteration);
            side.Destination.Shutdown(SocketShutdown.Send);
            await side.CompletionAsync().Within();
        }
    }

    [Fact]
    public async Task WhatCriuHasNotReadYetIsThereAfterTheEnd()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        await using var side = new Ends(pair);
        side.Start();
        var bytes = new byte[100_000];
        new Random(1).NextBytes(bytes);
        await side.Source.SendAsync(bytes);
        side.Source.Shutdown(SocketShutdown.Send);
        side.Destination.Shutdown(SocketShutdown.Send);
        await side.CompletionAsync().Within();

        // Only now, with both relays done, does the page server read.
        Same((bytes.LongLength, SHA256.HashData(bytes)), await ReadAsync(side.Destination, new Random(2)).Within(), 1);
    }

    [Fact]
    public async Task APageServerThatDiesIsAnErrorOnItsHost()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        await using var side = new Ends(pair);
        side.Start();
        // More than fits anywhere on the way, so bytes are certainly under way when it dies.
        Task<(long Length, byte[] Hash)> sending = WriteAsync(side.Source, new Random(3), 64 << 20);
        await side.Destination.ReceiveAsync(new byte[1000]);
        side.Destination.Dispose();

        var thrown = await Assert.ThrowsAsync<PhaulException>(() => side.DestinationRelay.Completion.Within());

        Assert.Equal(PhaulErrorId.PageTransferFailed, thrown.ErrorId);
        Assert.Null(pair.Destination.Fault);
        // The source's CRIU is stopped when the migration ends the connection.
        await pair.Destination.DisposeAsync();
        await Assert.ThrowsAsync<PhaulException>(() => side.SourceRelay.Completion.Within());
        await Assert.ThrowsAsync<SocketException>(() => sending.Within());
    }

    [Fact]
    public async Task ALostConnectionEndsTheRelayAndCriuSeesTheEnd()
    {
        await using RawPeer peer = await RawPeer.ConnectAsync();
        (Socket local, Socket criu) = SocketPair.CreateStream();
        using (criu)
        {
            await using var relay = new PageRelay(local, peer.Connection.OpenChannel(ChannelId.Pages));
            relay.Start();
            await peer.SendAsync(RawPeer.Frame(1, FrameKind.Data, [1, 2, 3]));
            peer.HangUp();

            var thrown = await Assert.ThrowsAsync<PhaulException>(() => relay.Completion.Within());

            Assert.Equal(PhaulErrorId.ConnectionLost, thrown.ErrorId);
            // What had arrived was handed over before.
            Assert.Equal(3, (await ReadAsync(criu, new Random(4)).Within()).Length);
        }
    }

    [Fact]
    public async Task CancellingStopsTheRelay()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        (Socket local, Socket criu) = SocketPair.CreateStream();
        using (criu)
        {
            using var cancel = new CancellationTokenSource();
            await using var relay = new PageRelay(local, pair.Source.OpenChannel(ChannelId.Pages));
            Task running = relay.RunAsync(cancel.Token);
            await cancel.CancelAsync();

            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running.Within());
            Assert.Equal(0, (await ReadAsync(criu, new Random(5)).Within()).Length);
        }
    }

    private static void Same((long Length, byte[] Hash) sent, (long Length, byte[] Hash) received, int seed) =>
        Assert.True(Text(sent) == Text(received), $"seed {seed}: {Text(sent)} sent, {Text(received)} received");

    private static (long, string) Text((long Length, byte[] Hash) bytes) => (bytes.Length, Convert.ToHexString(bytes.Hash));

    private static async Task<(long Length, byte[] Hash)> WriteAsync(Socket socket, Random random, long total)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[300_000];
        long sent = 0;
        while (sent < total)
        {
            // Headers of a few bytes and runs of pages, as CRIU mixes them.
            int length = random.Next(3) == 0 ? random.Next(1, 64) : random.Next(1, buffer.Length + 1);
            random.NextBytes(buffer.AsSpan(0, length));
            hash.AppendData(buffer, 0, length);
            for (int offset = 0; offset < length;)
                offset += await socket.SendAsync(buffer.AsMemory(offset, length - offset), SocketFlags.None);
            sent += length;
        }

        socket.Shutdown(SocketShutdown.Send);
        return (sent, hash.GetHashAndReset());
    }

    private static async Task<(long Length, byte[] Hash)> ReadAsync(Socket socket, Random random)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[500_000];
        long received = 0;
        while (true)
        {
            int count = await socket.ReceiveAsync(buffer.AsMemory(0, random.Next(1, buffer.Length + 1)), SocketFlags.None);
            if (count == 0)
                return (received, hash.GetHashAndReset());
            hash.AppendData(buffer, 0, count);
            received += count;
        }
    }

    /// <summary>Both hosts' relays, and the ends that CRIU would hold.</summary>
    private sealed class Ends : IAsyncDisposable
    {
        public Ends(ConnectedPair pair)
        {
            (Socket local, Source) = SocketPair.CreateStream();
            SourceRelay = new PageRelay(local, pair.Source.OpenChannel(ChannelId.Pages));
            (local, Destination) = SocketPair.CreateStream();
            DestinationRelay = new PageRelay(local, pair.Destination.OpenChannel(ChannelId.Pages));
        }

        public Socket Source { get; }

        public Socket Destination { get; }

        public PageRelay SourceRelay { get; }

        public PageRelay DestinationRelay { get; }

        public void Start()
        {
            SourceRelay.Start();
            DestinationRelay.Start();
        }

        public Task CompletionAsync() => Task.WhenAll(SourceRelay.Completion, DestinationRelay.Completion);

        public async ValueTask DisposeAsync()
        {
            await SourceRelay.DisposeAsync();
            await DestinationRelay.DisposeAsync();
            Source.Dispose();
            Destination.Dispose();
        }
    }
}
