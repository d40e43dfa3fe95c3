// Gives `criu lazy-pages` what it asks for, out of the page store: the page server of a tree that runs already.

using System.Buffers;
using System.Net.Sockets;

namespace Phaul.Images.Pages;

/// <summary>
/// Answers one daemon over a stream socket (criu/page-xfer.c, PS_IOV_GET) until it says that it has everything. It never hangs up
/// before: a daemon that loses its page server lets the program read zeros.
/// </summary>
internal sealed class PageStoreServer : IAsyncDisposable
{
    // What the daemon asks for at most, without page faults in between
    private const int MostBytes = 4 << 20;

    private readonly Socket _socket;
    private readonly PageStore _store;
    private readonly PageServerFormat _format;
    private readonly CancellationTokenSource _disposing = new();

    /// <summary>Begins to answer.</summary>
    /// <param name="socket">Connected to the daemon; owned from here on.</param>
    /// <param name="store">The late pages.</param>
    /// <param name="format">What CRIU on this host speaks.</param>
    public PageStoreServer(Socket socket, PageStore store, PageServerFormat format)
    {
        (_socket, _store, _format) = (socket, store, format);
        Completion = Task.Run(ServeAsync, CancellationToken.None);
    }

    /// <summary>
    /// Ends when the daemon has said that it has everything, or is gone. Fails with a <see cref="PhaulException"/> (RestoreFailed) if a
    /// page cannot be given to it.
    /// </summary>
    public Task Completion { get; }

    /// <summary>Hangs up: to be called only when nobody needs memory any more.</summary>
    public async ValueTask DisposeAsync()
    {
        await _disposing.CancelAsync().ConfigureAwait(false);
        await Completion.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _socket.Dispose();
        _disposing.Dispose();
    }

    private async Task ServeAsync()
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent((int)_format + MostBytes);
        try
        {
            var head = buffer.AsMemory(0, (int)_format);
            while (await ReadAsync(head).ConfigureAwait(false))
            {
                var request = PageServerHeader.Read(head.Span, _format);
                switch (request.Command)
                {
                    case PageServerCommand.Get:
                        await SendAsync(buffer.AsMemory(0, Answer(request, buffer))).ConfigureAwait(false);
                        break;
                    case PageServerCommand.Close or PageServerCommand.ForceClose:
                        await SendAsync(new byte[sizeof(int)]).ConfigureAwait(false);
                        return;
                    default:
                        throw Failed($"criu lazy-pages asked for something unknown ({request.Command})");
                }
            }
        }
        catch (SocketException)
        {
            // The daemon is gone, and how it ended tells whether it had everything.
        }
        catch (OperationCanceledException) when (_disposing.IsCancellationRequested)
        {
            // Nobody needs it any more.
        }
        catch (Exception exception) when (exception is not PhaulException)
        {
            // Whatever it is, the program stands still until it is restored another way.
            throw Failed($"Late memory could not be read from the images: {exception.Message}", exception);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Composes the answer in the buffer.</summary>
    private int Answer(PageServerHeader request, byte[] buffer)
    {
        int size = Environment.SystemPageSize;
        long wanted = (long)Math.Min(request.Pages, MostBytes / (ulong)size) * size;
        int length = _store.Read(request.Owner, request.Address, buffer.AsSpan((int)_format, (int)wanted));
        if (length == 0)
            throw Failed($"criu lazy-pages asked for memory at 0x{request.Address:x} of {request.Owner}, which was never received");
        // Fewer than were asked for are an answer, too: it asks again
        (request with { Command = PageServerCommand.AddWithFlags, Flags = PagemapFlags.Present, Pages = (ulong)(length / size) }).Write(buffer, _format);
        return (int)_format + length;
    }

    private async ValueTask<bool> ReadAsync(Memory<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int count = await _socket.ReceiveAsync(bytes, SocketFlags.None, _disposing.Token).ConfigureAwait(false);
            if (count == 0)
                return false;
            bytes = bytes[count..];
        }

        return true;
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> bytes)
    {
        while (bytes.Length > 0)
            bytes = bytes[await _socket.SendAsync(bytes, SocketFlags.None, _disposing.Token).ConfigureAwait(false)..];
    }

    private static PhaulException Failed(string message, Exception? cause = null) => new(PhaulErrorId.RestoreFailed, message, cause);
}
