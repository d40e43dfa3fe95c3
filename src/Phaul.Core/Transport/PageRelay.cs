// Carries CRIU's page stream between a UNIX socket on this host and the pages channel: bytes as they come, both ways.

using System.Net.Sockets;
using Phaul.Native;

namespace Phaul.Transport;

/// <summary>
/// Pumps between one end of a UNIX stream socket pair, whose other end is CRIU's, and a channel. Each direction ends by itself:
/// the local end of file becomes an end on the channel, an end on the channel becomes the local end of file, after everything
/// before it was written.
/// </summary>
public sealed class PageRelay : IAsyncDisposable
{
    /// <summary>Bytes that should be able to wait between CRIU and the relay: enough that neither waits for the other's turn on a
    /// busy machine, and that a frame is full when it leaves.</summary>
    internal const int LocalBuffer = 4 << 20;

    private readonly Socket _local;
    private readonly PhaulChannel _channel;
    private readonly CancellationTokenSource _stop = new();
    private readonly object _sync = new();
    private Task? _completion;
    private bool _disposed;
    private long _bytesToPeer;
    private long _bytesFromPeer;

    /// <summary>Makes a relay; nothing moves yet.</summary>
    /// <param name="local">A connected stream socket, owned by the relay from here on. Its other end must be closed by all but
    /// CRIU, or its end is not seen.</param>
    /// <param name="channel">The pages channel. One relay at a time.</param>
    public PageRelay(Socket local, PhaulChannel channel)
    {
        ArgumentNullException.ThrowIfNull(local);
        ArgumentNullException.ThrowIfNull(channel);
        _local = local;
        _channel = channel;
    }

    /// <summary>What is between CRIU and the peer; null: bytes go as they come. CRIU then is told that there is no parent.</summary>
    internal PageFilter? Filter { get; set; }

    /// <summary>Limits what goes to the peer; null for no limit. To be set before the start, and lifted rather than removed.</summary>
    public BandwidthLimit? Limit
    {
        get => _channel.Limit;
        init => _channel.Limit = value;
    }

    /// <summary>Bytes that CRIU here wrote and that were sent.</summary>
    public long BytesToPeer => Interlocked.Read(ref _bytesToPeer);

    /// <summary>Bytes that came from the peer and that were written to CRIU here.</summary>
    public long BytesFromPeer => Interlocked.Read(ref _bytesFromPeer);

    /// <summary>
    /// Ends when both directions have ended. Fails with a <see cref="PhaulException"/>: PageTransferFailed (the local CRIU closed its
    /// end with bytes on their way to it), or the connection's fault.
    /// </summary>
    public Task Completion
    {
        get
        {
            lock (_sync)
                return _completion ?? throw new InvalidOperationException("The relay was not started.");
        }
    }

    /// <summary>Begins to pump.</summary>
    public void Start() => _ = RunAsync(CancellationToken.None);

    /// <summary>Pumps until both directions have ended; the same as <see cref="Start"/> and <see cref="Completion"/>.</summary>
    /// <exception cref="PhaulException">As <see cref="Completion"/>.</exception>
    /// <exception cref="OperationCanceledException">It was cancelled, or disposed.</exception>
    public Task RunAsync(CancellationToken cancellationToken = default)
    {
        lock (_sync)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (_completion is not null)
                throw new InvalidOperationException("The relay was started already.");
            return _completion = Task.Run(() => PumpAsync(cancellationToken), CancellationToken.None);
        }
    }

    /// <summary>Stops at once and closes the local socket. What is on its way is lost: await <see cref="Completion"/> before
    /// where it matters.</summary>
    public async ValueTask DisposeAsync()
    {
        Task? completion;
        lock (_sync)
        {
            if (_disposed)
                return;
            _disposed = true;
            completion = _completion;
        }

        await _stop.CancelAsync().ConfigureAwait(false);
        if (completion is not null)
            await completion.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _local.Dispose();
        _stop.Dispose();
    }

    private async Task PumpAsync(CancellationToken cancellationToken)
    {
        using var both = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        Task[] directions = [Filter is { } filter ? FilteredToPeerAsync(filter, both.Token) : ToPeerAsync(both.Token), FromPeerAsync(both.Token)];
        Task first = await Task.WhenAny(directions).ConfigureAwait(false);
        // One direction's failure is the end of the other: CRIU must not go on into nowhere.
        if (!first.IsCompletedSuccessfully)
        {
            await both.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(directions).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            SocketPair.Cut(_local);
            await first.ConfigureAwait(false);
        }

        try
        {
            await Task.WhenAll(directions).ConfigureAwait(false);
        }
        catch
        {
            SocketPair.Cut(_local);
            throw;
        }
    }

    // While one frame is being sent the next is read: CRIU writes on meanwhile.
    private async Task ToPeerAsync(CancellationToken cancellationToken)
    {
        ValueTask sending = ValueTask.CompletedTask;
        try
        {
            while (true)
            {
                PooledFrame frame = _channel.RentFrame();
                int length;
                try
                {
                    length = await _local.ReceiveAsync(frame.Payload, SocketFlags.None, cancellationToken).ConfigureAwait(false);
                }
                catch
                {
                    frame.Dispose();
                    throw;
                }

                await Take(ref sending).ConfigureAwait(false);
                if (length == 0)
                {
                    frame.Dispose();
                    await _channel.SendEndAsync(cancellationToken).ConfigureAwait(false);
                    return;
                }

                sending = CountAsync(_channel.SendAsync(frame, length, cancellationToken), length);
            }
        }
        catch (SocketException exception)
        {
            throw LeftUnread(exception);
        }
        finally
        {
            try
            {
                await Take(ref sending).ConfigureAwait(false);
            }
            catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
            {
                // Something else failed first.
            }
        }
    }

    private async Task FilteredToPeerAsync(PageFilter filter, CancellationToken cancellationToken)
    {
        using var writer = new SequenceWriter(_channel);
        var buffer = new byte[PooledFrame.Capacity];
        try
        {
            while (true)
            {
                int length = await _local.ReceiveAsync(buffer, SocketFlags.None, cancellationToken).ConfigureAwait(false);
                if (length == 0)
                {
                    await writer.EndAsync(cancellationToken).ConfigureAwait(false);
                    return;
                }

                var passed = filter.Pass(buffer.AsSpan(0, length), out var expectsAnswer);
                await writer.WriteAsync(passed, cancellationToken).ConfigureAwait(false);
                if (expectsAnswer)
                    await writer.FlushAsync(cancellationToken).ConfigureAwait(false);
                Interlocked.Add(ref _bytesToPeer, passed.Length);
            }
        }
        catch (SocketException exception)
        {
            throw LeftUnread(exception);
        }
    }

    private static ValueTask Take(ref ValueTask sending)
    {
        ValueTask taken = sending;
        sending = ValueTask.CompletedTask;
        return taken;
    }

    private async ValueTask CountAsync(ValueTask sending, int length)
    {
        await sending.ConfigureAwait(false);
        Interlocked.Add(ref _bytesToPeer, length);
    }

    private async Task FromPeerAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            using ReceivedFrame frame = await _channel.ReceiveAsync(cancellationToken).ConfigureAwait(false);
            try
            {
                if (frame.IsEnd)
                {
                    _local.Shutdown(SocketShutdown.Send);
                    return;
                }

                // CRIU made no pre-dump: had it heard of a parent it would miss one here. Every other answer of a page server is 0
                ReadOnlyMemory<byte> rest = Filter is null ? frame.Payload : new byte[frame.Payload.Length];
                while (rest.Length > 0)
                {
                    int count = await _local.SendAsync(rest, SocketFlags.None, cancellationToken).ConfigureAwait(false);
                    Interlocked.Add(ref _bytesFromPeer, count);
                    rest = rest[count..];
                }
            }
            catch (SocketException exception)
            {
                throw LocalFailed("ended while pages were still coming", exception);
            }
        }
    }

    // The kernel says so only when CRIU closed its end without having read all that was written to it.
    private static PhaulException LeftUnread(SocketException cause) => LocalFailed("ended its side of the page stream with bytes unread", cause);

    private static PhaulException LocalFailed(string what, SocketException cause) =>
        new(PhaulErrorId.PageTransferFailed, $"CRIU on this host {what}: {cause.Message}", cause);
}
