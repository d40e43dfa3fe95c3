// Pages that are on the source still: asked for by address, delivered in the order in which they were asked for.

using System.Diagnostics;
using Phaul.Transport;

namespace Phaul.Images.Pages;

/// <summary>
/// Speaks to <c>LatePages</c> on the source over the pages channel, in the words of CRIU's page server (criu/page-xfer.c, PS_IOV_GET):
/// a header that asks, a header and pages that answer. For several threads.
/// </summary>
internal sealed class RemotePages : IAsyncDisposable
{
    // What was asked for ahead is in front of what somebody waits for: so much of it takes a few milliseconds on this link
    private const double AheadSeconds = 0.005;
    private const int LeastAhead = 256 << 10;
    private const int MostAhead = 8 << 20;

    // Whatever CRIU on the source speaks
    private const PageServerFormat Format = PageServerFormat.Long;

    private readonly PhaulChannel _channel;
    private readonly SequenceReader _stream;
    private readonly object _sync = new();
    private readonly Queue<Question> _asked = new();
    private readonly SemaphoreSlim _sending = new(1, 1);
    private readonly CancellationTokenSource _disposing = new();
    private readonly TaskCompletionSource _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Task _receiving;
    private PhaulException? _fault;
    private int _disposed;
    private long _askedBytes;
    private long _bytesReceived;
    private long _busySince;
    private long _busyBytes;
    private double _bytesPerSecond;

    /// <param name="channel">The pages channel. Nothing else may use it from here on.</param>
    public RemotePages(PhaulChannel channel)
    {
        _channel = channel;
        _stream = new SequenceReader(channel);
        _receiving = Task.Run(ReceiveAsync, CancellationToken.None);
    }

    /// <summary>Bytes of pages so far.</summary>
    public long BytesReceived => Interlocked.Read(ref _bytesReceived);

    /// <summary>Why no more will come; null as long as they come.</summary>
    public PhaulException? Fault => Volatile.Read(ref _fault);

    /// <summary>Whether more may be asked for before somebody needs it.</summary>
    public bool HasRoom
    {
        get
        {
            var most = Math.Clamp((long)(Volatile.Read(ref _bytesPerSecond) * AheadSeconds), LeastAhead, MostAhead);
            return Interlocked.Read(ref _askedBytes) < most;
        }
    }

    /// <summary>Asks for pages.</summary>
    /// <param name="pid">Whose: the pid in the images.</param>
    /// <param name="address">Of the first.</param>
    /// <param name="buffer">Room for whole pages. It is written to until the task has ended.</param>
    /// <returns>How many bytes came: at least a page, perhaps fewer than there is room for.</returns>
    /// <exception cref="PhaulException">ConnectionLost or PageTransferFailed: they will not come any more.</exception>
    public async ValueTask<int> ReadAsync(ulong pid, ulong address, Memory<byte> buffer)
    {
        var question = new Question(pid, address, buffer);
        await AskAsync(
            question, new PageServerHeader(PageServerCommand.Get, PagemapFlags.None, (ulong)(buffer.Length / Environment.SystemPageSize), address, pid))
            .ConfigureAwait(false);
        return await question.Answer.Task.ConfigureAwait(false);
    }

    /// <summary>Nothing more will be asked for: tells the source, and waits until it knows.</summary>
    /// <exception cref="PhaulException">It could not be told, which changes nothing: all is here.</exception>
    public async Task CloseAsync(CancellationToken cancellationToken)
    {
        await AskAsync(null, new PageServerHeader(PageServerCommand.Close, PagemapFlags.None, 0, 0, 0)).ConfigureAwait(false);
        await _closed.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    /// <remarks>Whoever waits for pages learns that they will not come.</remarks>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0)
            return;
        await _disposing.CancelAsync().ConfigureAwait(false);
        await _receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stream.Dispose();
    }

    private async Task AskAsync(Question? question, PageServerHeader header)
    {
        try
        {
            await _sending.WaitAsync(_disposing.Token).ConfigureAwait(false);
            try
            {
                if (question is not null)
                    Enter(question);
                var frame = _channel.RentFrame();
                header.Write(frame.Payload.Span, Format);
                await _channel.SendAsync(frame, (int)Format, _disposing.Token).ConfigureAwait(false);
            }
            finally
            {
                _sending.Release();
            }
        }
        catch (Exception exception) when (exception is PhaulException or OperationCanceledException)
        {
            throw Break(exception);
        }
    }

    private void Enter(Question question)
    {
        lock (_sync)
        {
            if (_fault is not null)
                throw _fault;
            if (_asked.Count == 0)
                (_busySince, _busyBytes) = (Stopwatch.GetTimestamp(), 0);
            _asked.Enqueue(question);
        }

        Interlocked.Add(ref _askedBytes, question.Buffer.Length);
    }

    private async Task ReceiveAsync()
    {
        var header = new byte[(int)Format];
        try
        {
            while (await _stream.ReadExactlyAsync(header, _disposing.Token).ConfigureAwait(false))
            {
                var answer = PageServerHeader.Read(header, Format);
                if (answer.Command == PageServerCommand.Close)
                {
                    _closed.TrySetResult();
                    return;
                }

                await TakeAsync(answer).ConfigureAwait(false);
            }

            Break(new PhaulException(PhaulErrorId.PageTransferFailed, "The source stopped giving memory before all of it was here"));
        }
        catch (Exception exception)
        {
            Break(exception);
        }
    }

    private async Task TakeAsync(PageServerHeader answer)
    {
        Question? question;
        lock (_sync)
            _asked.TryPeek(out question);
        var length = (long)answer.Pages * Environment.SystemPageSize;
        if (question is null || answer.Command != PageServerCommand.AddWithFlags || answer.Owner != question.Pid
            || answer.Address != question.Address || answer.Pages == 0 || answer.Pages > (ulong)(question.Buffer.Length / Environment.SystemPageSize))
        {
            throw new PhaulException(PhaulErrorId.ProtocolError, $"The source sent {answer.Pages} pages at 0x{answer.Address:x} for which nobody had asked.");
        }

        if (!await _stream.ReadExactlyAsync(question.Buffer[..(int)length], _disposing.Token).ConfigureAwait(false))
            throw new PhaulException(PhaulErrorId.PageTransferFailed, "The source stopped giving memory in the middle of a page");
        lock (_sync)
        {
            _asked.Dequeue();
            _busyBytes += length;
            var elapsed = Stopwatch.GetElapsedTime(_busySince).TotalSeconds;
            if (elapsed > 0)
                Volatile.Write(ref _bytesPerSecond, _busyBytes / elapsed);
        }

        Interlocked.Add(ref _askedBytes, -question.Buffer.Length);
        Interlocked.Add(ref _bytesReceived, length);
        question.Answer.TrySetResult((int)length);
    }

    /// <summary>Nothing comes any more: everybody who waits learns it.</summary>
    private PhaulException Break(Exception cause)
    {
        lock (_sync)
        {
            _fault ??= cause switch
            {
                PhaulException known => known,
                OperationCanceledException => new PhaulException(PhaulErrorId.ConnectionLost, "The source was lost", cause),
                _ => new PhaulException(PhaulErrorId.PageTransferFailed, $"No more memory comes from the source: {cause.Message}", cause),
            };
            while (_asked.TryDequeue(out var question))
                question.Answer.TrySetException(_fault);
            _closed.TrySetException(_fault);
            // Nobody need be waiting for it
            _ = _closed.Task.Exception;
            return _fault;
        }
    }

    private sealed class Question(ulong pid, ulong address, Memory<byte> buffer)
    {
        public ulong Pid => pid;

        public ulong Address => address;

        public Memory<byte> Buffer => buffer;

        public TaskCompletionSource<int> Answer { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
