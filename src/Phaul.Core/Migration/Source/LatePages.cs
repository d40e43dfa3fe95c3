// Gives the destination the pages that stayed behind, as it asks for them: from CRIU on this host to the pages channel.

using System.Net.Sockets;
using Phaul.Criu;
using Phaul.Images.Pages;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul;

/// <summary>
/// Stands between CRIU's page server for a lazy dump (criu/page-xfer.c) and <see cref="RemotePages"/> on the destination. What the
/// destination asks for is looked at first: CRIU would take any of a page server's commands, does not survive a pid that it does not
/// know, and waits for ever for a page that it has not kept.
/// </summary>
internal sealed class LatePages : IAsyncDisposable
{
    // Between the hosts the header of CRIU 4.2, whatever is spoken here
    private const PageServerFormat OnWire = PageServerFormat.Long;
    private const ulong MostPages = 4096;

    private readonly Socket _criu;
    private readonly PhaulChannel _channel;
    private readonly PageServerFormat _format;
    private readonly PageRelay _before;
    private readonly CancellationTokenSource _stop = new();
    private readonly byte[] _toCriu;
    private readonly byte[] _fromCriu;
    private readonly Dictionary<ulong, LateRanges> _lazy = [];
    private Task _serving = Task.CompletedTask;
    private long _bytesSent;
    private int _unanswered;
    private bool _isDisposed;

    /// <param name="criu">The other end of CRIU's socket; owned by this.</param>
    /// <param name="channel">The pages channel.</param>
    /// <param name="version">CRIU's here: what it speaks.</param>
    /// <param name="before">What had the channel before; ended when this begins.</param>
    public LatePages(Socket criu, PhaulChannel channel, uint version, PageRelay before)
    {
        (_criu, _channel, _format, _before) = (criu, channel, PageServerHeader.FormatOf(version), before);
        _toCriu = new byte[(int)_format];
        _fromCriu = new byte[(int)_format];
    }

    /// <summary>Bytes of pages sent.</summary>
    public long BytesSent => Interlocked.Read(ref _bytesSent);

    /// <summary>Gets ready: nothing else is sent over the channel from here on.</summary>
    public ValueTask TakeOverAsync() => _before.DisposeAsync();

    /// <summary>Begins to serve, once CRIU does.</summary>
    /// <param name="imagesDirectory">Of the dump: tells which pages CRIU has kept, and of whom.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="PhaulException">RestoreFailed: an image is damaged.</exception>
    public void Start(string imagesDirectory)
    {
        foreach (var owner in PagemapImage.OwnersIn(imagesDirectory).Where(owner => owner.Kind == PageOwnerKind.Task))
        {
            var ranges = PagemapImage.Read(Path.Combine(imagesDirectory, PagemapImage.NameOf(owner))).Ranges;
            _lazy[owner.Id] = new LateRanges(ranges.Where(range => range.Flags == PagemapFlags.Lazy).Select(LateRangeOf));
        }

        _serving = Task.Run(ServeAsync, CancellationToken.None);
    }

    /// <summary>Whether CRIU serves, and is asked: once it has gone, or was cut off, it lets the tree go.</summary>
    public bool IsServing => !_serving.IsCompleted && !_isDisposed && !(_criu.Poll(0, SelectMode.SelectRead) && _criu.Available == 0);

    /// <summary>Has CRIU find the end of its socket: it then resumes what is left of the tree, and ends.</summary>
    public void Cut() => SocketPair.Cut(_criu);

    /// <summary>Stops at once. CRIU then resumes what is left of the tree, and ends.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_isDisposed)
            return;
        _isDisposed = true;
        await _stop.CancelAsync().ConfigureAwait(false);
        await _serving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _criu.Dispose();
        _stop.Dispose();
    }

    private static LateRange LateRangeOf((ulong Address, ulong Pages, PagemapFlags Flags) range) =>
        new(range.Address, range.Address + (range.Pages * (ulong)Environment.SystemPageSize), range.Address);

    private async Task ServeAsync()
    {
        Task[] directions = [AskAsync(_stop.Token), AnswerAsync(_stop.Token)];
        await Task.WhenAny(directions).ConfigureAwait(false);
        // One of them without the other is of no use
        if (directions.Any(direction => direction.IsFaulted))
            await _stop.CancelAsync().ConfigureAwait(false);
        try
        {
            await Task.WhenAll(directions).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        finally
        {
            await TellEndAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Whoever waits for pages there learns that none come any more.</summary>
    private async Task TellEndAsync()
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(5));
            await _channel.SendEndAsync(limit.Token).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
        {
            // The connection has ended, which tells it as well.
        }
    }

    private async Task AskAsync(CancellationToken cancellationToken)
    {
        using var questions = new SequenceReader(_channel);
        var header = new byte[(int)OnWire];
        while (await questions.ReadExactlyAsync(header, cancellationToken).ConfigureAwait(false))
        {
            var question = PageServerHeader.Read(header, OnWire);
            if (question.Command is not (PageServerCommand.Get or PageServerCommand.Close))
                throw Wrong($"asked for {question.Command}");
            if (question.Command == PageServerCommand.Get
                && (question.Pages is 0 or > MostPages || question.Address % (ulong)Environment.SystemPageSize != 0
                    || !_lazy.TryGetValue(question.Owner, out var lazy) || lazy.At(question.Address) is null))
            {
                throw Wrong($"asked for {question.Pages} pages of process {question.Owner} at 0x{question.Address:x}");
            }

            Interlocked.Increment(ref _unanswered);
            question.Write(_toCriu, _format);
            for (var rest = _toCriu.AsMemory(); rest.Length > 0;)
                rest = rest[await _criu.SendAsync(rest, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
            if (question.Command == PageServerCommand.Close)
                return;
        }
    }

    private async Task AnswerAsync(CancellationToken cancellationToken)
    {
        using var answers = new SequenceWriter(_channel);
        var onWire = new byte[(int)OnWire];
        while (true)
        {
            // A single word answers the last question
            if (!await ReceiveAsync(_fromCriu.AsMemory(0, sizeof(int)), cancellationToken).ConfigureAwait(false))
                throw new PhaulException(PhaulErrorId.PageTransferFailed, "CRIU on this host ended before the destination had all memory.");
            if (BitConverter.ToInt32(_fromCriu) == 0)
            {
                new PageServerHeader(PageServerCommand.Close, PagemapFlags.None, 0, 0, 0).Write(onWire, OnWire);
                await answers.WriteAsync(onWire, cancellationToken).ConfigureAwait(false);
                await answers.FlushAsync(cancellationToken).ConfigureAwait(false);
                return;
            }

            await ReceiveAsync(_fromCriu.AsMemory(sizeof(int)), cancellationToken).ConfigureAwait(false);
            var answer = PageServerHeader.Read(_fromCriu, _format);
            answer.Write(onWire, OnWire);
            await answers.WriteAsync(onWire, cancellationToken).ConfigureAwait(false);
            for (var left = (long)answer.Pages * Environment.SystemPageSize; left > 0;)
            {
                var space = await answers.GetSpaceAsync(cancellationToken).ConfigureAwait(false);
                var count = await _criu.ReceiveAsync(space[..(int)Math.Min(space.Length, left)], SocketFlags.None, cancellationToken).ConfigureAwait(false);
                if (count == 0)
                    throw new PhaulException(PhaulErrorId.PageTransferFailed, "CRIU on this host ended in the middle of a page.");
                answers.Advance(count);
                left -= count;
                Interlocked.Add(ref _bytesSent, count);
            }

            // What nobody waits behind is not held back
            if (Interlocked.Decrement(ref _unanswered) == 0 || _criu.Available == 0)
                await answers.FlushAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    /// <returns>False: CRIU has ended.</returns>
    private async ValueTask<bool> ReceiveAsync(Memory<byte> bytes, CancellationToken cancellationToken)
    {
        while (bytes.Length > 0)
        {
            var count = await _criu.ReceiveAsync(bytes, SocketFlags.None, cancellationToken).ConfigureAwait(false);
            if (count == 0)
                return false;
            bytes = bytes[count..];
        }

        return true;
    }

    private static PhaulException Wrong(string what) => new(PhaulErrorId.ProtocolError, $"The destination {what}, which is none of its business.");
}
