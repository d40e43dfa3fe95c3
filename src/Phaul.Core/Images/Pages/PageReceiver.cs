// The destination's page server: takes what CRIU on the source sends through the pages channel and writes it as CRIU's images.
// In place of `criu page-server`: one process and two copies fewer in the frozen time, and the places of all pages are known.

using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Images.Pages;

/// <summary>How a receiver writes.</summary>
internal sealed record PageReceiverOptions
{
    /// <summary>What CRIU on the source speaks.</summary>
    public PageServerFormat Format { get; init; } = PageServerFormat.Long;

    /// <summary>Punch holes into earlier images where a later one has the page.</summary>
    public bool AutoDedup { get; init; }

    /// <summary>Bring everything to disk before the source is told that it has arrived.</summary>
    public bool Durable { get; init; }

    /// <summary>Bytes that must stay free where the images are.</summary>
    public long MinFreeBytes { get; init; }
}

/// <summary>
/// Speaks the page-server protocol (criu/page-xfer.c) over the pages channel of one migration: one image directory after the other,
/// one iteration each. What was received before stays known for the iterations after it.
/// </summary>
internal sealed class PageReceiver : IDisposable
{
    // Between two looks at the free space
    private const long SpaceInterval = 64L << 20;
    private const int MaxOwners = 1 << 16;

    private readonly PhaulChannel _channel;
    private readonly PageReceiverOptions _options;
    private readonly SequenceReader _stream;
    private readonly byte[] _header;
    private readonly List<ReceivedIteration> _iterations = [];
    private PageImage? _open;
    private long _bytesReceived;
    private long _checkSpaceAt;

    public PageReceiver(PhaulChannel channel, PageReceiverOptions options)
    {
        (_channel, _options) = (channel, options);
        _header = new byte[(int)options.Format];
        // What is gathered for a write lies in the frame
        _stream = new SequenceReader(channel) { Releasing = () => _open?.Flush() };
    }

    /// <summary>What was received so far, oldest first; the last may be incomplete.</summary>
    public IReadOnlyList<ReceivedIteration> Iterations => _iterations;

    /// <summary>Bytes of the page stream, headers included.</summary>
    public long BytesReceived => Interlocked.Read(ref _bytesReceived);

    /// <summary>Receives one iteration. Comes back when CRIU on the source has said that it is complete, and it is written.</summary>
    /// <param name="directory">An empty directory of the chain.</param>
    /// <exception cref="PhaulException">PageTransferFailed: pages are missing; or the connection's fault.</exception>
    /// <exception cref="OperationCanceledException">Cancelled: pages are missing.</exception>
    public async Task ReceiveAsync(string directory, CancellationToken cancellationToken)
    {
        var iteration = new ReceivedIteration(directory);
        var parent = _iterations.LastOrDefault();
        _iterations.Add(iteration);
        try
        {
            while (true)
            {
                var header = await ReadHeaderAsync(cancellationToken).ConfigureAwait(false);
                switch (header.Command)
                {
                    case PageServerCommand.Open:
                        Open(iteration, parent, PageOwner.FromWire(header.Owner));
                        break;
                    case PageServerCommand.OpenAndAnswer:
                        var owner = PageOwner.FromWire(header.Owner);
                        Open(iteration, parent, owner);
                        await AnswerAsync([(byte)(parent?.Has(owner) == true ? 1 : 0)], cancellationToken).ConfigureAwait(false);
                        break;
                    case PageServerCommand.HasParent:
                        await AnswerAsync(
                            BitConverter.GetBytes(parent?.Has(PageOwner.FromWire(header.Owner)) == true ? 1 : 0), cancellationToken).ConfigureAwait(false);
                        break;
                    case PageServerCommand.Add:
                        await AddAsync(header with { Flags = PagemapFlags.Present }, cancellationToken).ConfigureAwait(false);
                        break;
                    case PageServerCommand.Hole:
                        await AddAsync(header with { Flags = PagemapFlags.InParent }, cancellationToken).ConfigureAwait(false);
                        break;
                    case PageServerCommand.AddWithFlags:
                        await AddAsync(header, cancellationToken).ConfigureAwait(false);
                        break;
                    case PageServerCommand.Close or PageServerCommand.ForceClose:
                        CompleteOpen();
                        // Upon the 0 CRIU ends the pre-dump, or comes to post-dump: not before everything is written. What went wrong is
                        // said by other means, never by another number: a source that prefetches gives CRIU a 0 in any case
                        await AnswerAsync(new byte[sizeof(int)], cancellationToken).ConfigureAwait(false);
                        return;
                    default:
                        throw Failed($"CRIU on the source asked for something that a page server does not do ({header.Command}).");
                }
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NativeException)
        {
            throw Failed($"Pages could not be written to {directory}: {exception.Message}", exception);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _open = null;
        _stream.Dispose();
        foreach (var iteration in _iterations)
            iteration.Dispose();
    }

    private async ValueTask<PageServerHeader> ReadHeaderAsync(CancellationToken cancellationToken)
    {
        if (!await _stream.ReadExactlyAsync(_header, cancellationToken).ConfigureAwait(false))
            throw Failed("CRIU on the source ended before it had sent all pages.");
        Interlocked.Add(ref _bytesReceived, _header.Length);
        return PageServerHeader.Read(_header, _options.Format);
    }

    private void Open(ReceivedIteration iteration, ReceivedIteration? parent, PageOwner owner)
    {
        CompleteOpen();
        if (iteration.Count == MaxOwners)
            throw Failed($"CRIU on the source sent the pages of more than {MaxOwners} owners.");
        _open = iteration.Open(owner, parent);
    }

    private async ValueTask AddAsync(PageServerHeader header, CancellationToken cancellationToken)
    {
        if (_open is null || _open.Owner.OnWire != header.Owner)
            throw Failed("CRIU on the source sent pages of something that it had not opened.");
        _open.Add(header.Address, header.Pages, header.Flags);
        if (!header.Flags.HasFlag(PagemapFlags.Present))
            return;
        if (_options.AutoDedup)
            _open.PunchParents(header.Address, header.Pages);
        long left = (long)header.Pages * Environment.SystemPageSize;
        while (left > 0)
        {
            var bytes = await _stream.ReadSomeAsync(left, cancellationToken).ConfigureAwait(false);
            if (bytes.IsEmpty)
                throw Failed("CRIU on the source ended in the middle of a page.");
            _open.Append(bytes);
            left -= bytes.Length;
            RequireSpace(Interlocked.Add(ref _bytesReceived, bytes.Length));
        }
    }

    // The program runs, or is frozen and can still be let go: before the disk is full is the time to find out
    private void RequireSpace(long received)
    {
        if (received < _checkSpaceAt)
            return;
        _checkSpaceAt = received + SpaceInterval;
        string directory = _iterations[^1].Directory;
        long free = FileSystemSpace.AvailableBytes(directory);
        if (free >= _options.MinFreeBytes)
            return;
        throw new PhaulException(
            PhaulErrorId.PageTransferFailed,
            $"There is too little room for the pages in {directory}: {free >> 20} MiB are free, and {_options.MinFreeBytes >> 20} MiB must stay so.")
        {
            RecommendedAction = "Free space there, or name another work directory for the server.",
        };
    }

    private void CompleteOpen()
    {
        _open?.Complete(_options.Durable);
        _open = null;
    }

    private ValueTask AnswerAsync(ReadOnlySpan<byte> answer, CancellationToken cancellationToken)
    {
        var frame = _channel.RentFrame();
        answer.CopyTo(frame.Payload.Span);
        return _channel.SendAsync(frame, answer.Length, cancellationToken);
    }

    private static PhaulException Failed(string message, Exception? cause = null) => new(PhaulErrorId.PageTransferFailed, message, cause);
}
