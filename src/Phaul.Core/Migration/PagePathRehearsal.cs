// Goes the way of the frozen part once, in miniature and with nobody waiting: what runs for the first time takes its time.

using System.Net.Sockets;
using Phaul.Images;
using Phaul.Images.Pages;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul;

/// <summary>
/// A few pages and images through a relay, a connection and a receiver in this process. Types are loaded, calls are bound, buffers and
/// threads are there: some ten milliseconds that a program would otherwise wait for.
/// </summary>
internal static class PagePathRehearsal
{
    private const int Pages = 256;
    private const ulong Task1 = 1;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(5);

    /// <summary>Runs it. Never fails: a migration can do without.</summary>
    public static async Task RunAsync()
    {
        try
        {
            using var limit = new CancellationTokenSource(Limit);
            var directory = Directory.CreateTempSubdirectory("phaul-");
            try
            {
                await RunAsync(directory, limit.Token).ConfigureAwait(false);
            }
            finally
            {
                directory.Delete(recursive: true);
            }
        }
        catch (Exception)
        {
            // No room, no descriptors, a machine that stands still: the migration will find out what matters of that.
        }
    }

    /// <summary>The same below a directory, and fails if anything does.</summary>
    internal static async Task RunAsync(DirectoryInfo directory, CancellationToken cancellationToken)
    {
        var (one, other) = SocketPair.CreateStream();
        var opening = PhaulConnection.OpenAsync(new NetworkStream(one, ownsSocket: true), ConnectionRole.Initiator, "rehearsal", null, cancellationToken);
        await using var destination = await PhaulConnection
            .OpenAsync(new NetworkStream(other, ownsSocket: true), ConnectionRole.Responder, "rehearsal", null, cancellationToken).ConfigureAwait(false);
        await using var source = await opening.ConfigureAwait(false);
        var sent = directory.CreateSubdirectory("sent");
        var received = Directory.CreateDirectory(
            Path.Combine(directory.FullName, "received"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

        var (criuSocket, relayEnd) = SocketPair.CreateStream();
        using var criu = criuSocket;
        await using var relay = new PageRelay(relayEnd, source.OpenChannel(ChannelId.Pages));
        relay.Start();
        using var receiver = new PageReceiver(destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions());
        var receiving = Task.Run(() => receiver.ReceiveAsync(received.FullName, cancellationToken), CancellationToken.None);
        await SendPagesAsync(criu, cancellationToken).ConfigureAwait(false);
        await receiving.ConfigureAwait(false);

        for (int image = 0; image < 8; image++)
            await File.WriteAllBytesAsync(Path.Combine(sent.FullName, $"core-{image}.img"), new byte[1000], cancellationToken).ConfigureAwait(false);
        var sending = ImageSender.SendAsync(sent.FullName, source.OpenChannel(ChannelId.Images), cancellationToken: cancellationToken);
        await ImageReceiver.ReceiveAsync(received.FullName, destination.OpenChannel(ChannelId.Images), cancellationToken: cancellationToken)
            .ConfigureAwait(false);
        await sending.ConfigureAwait(false);
        await GiveAsync(receiver.Iterations[^1], Path.Combine(directory.FullName, "late"), cancellationToken).ConfigureAwait(false);
        await AskAsync(source, destination, relay, directory.CreateSubdirectory("behind").FullName, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Pages that stayed behind, as a CRIU of this process gives them.</summary>
    private static async Task AskAsync(
        PhaulConnection source, PhaulConnection destination, PageRelay before, string images, CancellationToken cancellationToken)
    {
        var (criuSocket, served) = SocketPair.CreateStream();
        using var criu = criuSocket;
        await using var late = new LatePages(served, source.OpenChannel(ChannelId.Pages), version: 0, before);
        await late.TakeOverAsync().ConfigureAwait(false);
        var owner = new PageOwner(PageOwnerKind.Task, Task1);
        await File.WriteAllBytesAsync(
            Path.Combine(images, PagemapImage.NameOf(owner)),
            PagemapImage.Compose(1, [new PagemapRange((ulong)Environment.SystemPageSize, Pages, PagemapFlags.Lazy, 0)]).ToArray(), cancellationToken)
            .ConfigureAwait(false);
        late.Start(images);
        await using var remote = new RemotePages(destination.OpenChannel(ChannelId.Pages));
        var page = (ulong)Environment.SystemPageSize;
        for (var i = 0; i < 8; i++)
        {
            var asked = remote.ReadAsync(Task1, page, new byte[(int)page]);
            await ReceiveAsync(criu, new byte[(int)PageServerFormat.Long], cancellationToken).ConfigureAwait(false);
            await SendAsync(
                criu, new PageServerHeader(PageServerCommand.AddWithFlags, PagemapFlags.Present, 1, page, Task1), new byte[(int)page], cancellationToken)
                .ConfigureAwait(false);
            await asked.ConfigureAwait(false);
        }
    }

    private static async Task ReceiveAsync(Socket criu, Memory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            var count = await criu.ReceiveAsync(bytes, SocketFlags.None, cancellationToken).ConfigureAwait(false);
            if (count == 0)
                throw new EndOfStreamException();
            bytes = bytes[count..];
        }
    }

    /// <summary>The page store of what was received, and a restore of nothing that asks for it.</summary>
    private static async Task GiveAsync(ReceivedIteration iteration, string directory, CancellationToken cancellationToken)
    {
        LateMappings.Write(iteration.Directory, Task1, [new LateMappings.Mapping((ulong)Environment.SystemPageSize, ulong.MaxValue)]);
        var store = PageStore.Compose(iteration, directory)!;
        await using var server = await MemoryServer.StartAsync(store, directory).ConfigureAwait(false);
        using var criu = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await criu.ConnectAsync(new UnixDomainSocketEndPoint(Path.Combine(directory, MemoryServer.SocketName)), cancellationToken).ConfigureAwait(false);
        await store.ReadAsync(Task1, store.RangesOf(Task1).First().ImageStart, new byte[Environment.SystemPageSize]).ConfigureAwait(false);
        await criu.SendAsync(BitConverter.GetBytes(MemoryServer.RestoreFinished), SocketFlags.None, cancellationToken).ConfigureAwait(false);
        await server.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task SendPagesAsync(Socket criu, CancellationToken cancellationToken)
    {
        var owner = new PageOwner(PageOwnerKind.Task, Task1).OnWire;
        var content = new byte[Pages * Environment.SystemPageSize];
        await SendAsync(criu, new PageServerHeader(PageServerCommand.OpenAndAnswer, 0, 0, 0, owner), default, cancellationToken).ConfigureAwait(false);
        await criu.ReceiveAsync(new byte[1], SocketFlags.None, cancellationToken).ConfigureAwait(false);
        await SendAsync(
            criu, new PageServerHeader(PageServerCommand.AddWithFlags, PagemapFlags.Present | PagemapFlags.Lazy, Pages, (ulong)content.Length, owner), content,
            cancellationToken).ConfigureAwait(false);
        await SendAsync(criu, new PageServerHeader(PageServerCommand.ForceClose, 0, 0, 0, 0), default, cancellationToken).ConfigureAwait(false);
        await criu.ReceiveAsync(new byte[sizeof(int)], SocketFlags.None, cancellationToken).ConfigureAwait(false);
    }

    private static async Task SendAsync(Socket criu, PageServerHeader header, ReadOnlyMemory<byte> content, CancellationToken cancellationToken)
    {
        var head = new byte[(int)PageServerFormat.Long];
        header.Write(head, PageServerFormat.Long);
        await criu.SendAsync(head, SocketFlags.None, cancellationToken).ConfigureAwait(false);
        while (content.Length > 0)
            content = content[await criu.SendAsync(content, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
    }
}
