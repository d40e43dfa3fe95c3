// Requests to the destination and their answers: numbered, waited for, and ended all together when the connection breaks.

using System.Collections.Concurrent;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>The control messages of one connection, as its source sees them.</summary>
internal sealed class Conversation : IAsyncDisposable
{
    // The longest of what is asked for, the restore of a large tree, is given up by the destination itself long before.
    private static readonly TimeSpan RequestLimit = TimeSpan.FromMinutes(30);

    private readonly PhaulConnection _connection;
    private readonly ConcurrentDictionary<ulong, TaskCompletionSource<DestinationMessage>> _waiting = new();
    private readonly CancellationTokenSource _broken = new();
    private readonly CancellationTokenSource _disposing = new();
    private readonly SemaphoreSlim _sending = new(1, 1);
    private readonly Task _receiving;
    private ulong _lastRequest;
    private volatile bool _isDeaf;

    /// <param name="connection">Disposed with it.</param>
    public Conversation(PhaulConnection connection)
    {
        _connection = connection;
        _receiving = ReceiveAsync();
    }

    /// <summary>Cancelled when the migration cannot succeed any more; <see cref="Fault"/> says why.</summary>
    public CancellationToken Broken => _broken.Token;

    /// <summary>Why it is broken.</summary>
    public PhaulException? Fault { get; private set; }

    /// <summary>Whether the connection still carries messages.</summary>
    public bool IsConnected => !_connection.Closed.IsCancellationRequested;

    /// <summary>Asks, and waits for the answer.</summary>
    /// <exception cref="PhaulException">The destination's own, TimedOut, ProtocolError, or why the conversation broke.</exception>
    public async Task<DestinationMessage> RequestAsync(
        SourceMessage message, DestinationMessage.BodyOneofCase expected, CancellationToken cancellationToken, TimeSpan? limit = null)
    {
        var (request, answer) = await SendAsync(message, cancellationToken).ConfigureAwait(false);
        return await AnswerAsync(request, answer, expected, cancellationToken, limit).ConfigureAwait(false);
    }

    /// <summary>Asks only; <see cref="AnswerAsync"/> waits.</summary>
    public async Task<(ulong Request, Task<DestinationMessage> Answer)> SendAsync(SourceMessage message, CancellationToken cancellationToken)
    {
        ThrowIfBroken();
        message.Request = Interlocked.Increment(ref _lastRequest);
        var answer = new TaskCompletionSource<DestinationMessage>(TaskCreationOptions.RunContinuationsAsynchronously);
        _waiting[message.Request] = answer;
        // Nobody would bring the answer. A destination that has only told that the migration cannot succeed still answers.
        if (_isDeaf && _waiting.TryRemove(message.Request, out _))
            throw Fault!;
        await WriteAsync(message, cancellationToken).ConfigureAwait(false);
        return (message.Request, answer.Task);
    }

    /// <inheritdoc cref="RequestAsync"/>
    public async Task<DestinationMessage> AnswerAsync(
        ulong request, Task<DestinationMessage> answer, DestinationMessage.BodyOneofCase expected, CancellationToken cancellationToken,
        TimeSpan? limit = null)
    {
        DestinationMessage message;
        try
        {
            message = await answer.WaitAsync(limit ?? RequestLimit, cancellationToken).ConfigureAwait(false);
        }
        catch (TimeoutException exception)
        {
            throw new PhaulException(
                PhaulErrorId.TimedOut, $"The destination has not answered for {RequestLimit.TotalMinutes:0} minutes, although its connection lives", exception)
            {
                RecommendedAction = "See what the destination's server does; its connection lives, so its host and the network do.",
            };
        }
        finally
        {
            _waiting.TryRemove(request, out _);
        }

        if (message.BodyCase == DestinationMessage.BodyOneofCase.Failure)
            throw FailureOnWire.ToException(message.Failure);
        if (message.BodyCase != expected)
            throw new PhaulException(PhaulErrorId.ProtocolError, $"The destination answered {message.BodyCase} where {expected} was due.");
        return message;
    }

    /// <summary>Sends what nobody answers.</summary>
    public async Task WriteAsync(SourceMessage message, CancellationToken cancellationToken)
    {
        await _sending.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await _connection.SendControlAsync(message, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _sending.Release();
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _disposing.CancelAsync().ConfigureAwait(false);
        await _connection.DisposeAsync().ConfigureAwait(false);
        await _receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _broken.Dispose();
        _disposing.Dispose();
        _sending.Dispose();
    }

    private async Task ReceiveAsync()
    {
        try
        {
            while (true)
            {
                var message = await _connection.ReceiveControlAsync(DestinationMessage.Parser, _disposing.Token).ConfigureAwait(false);
                if (message.Request == 0 && message.BodyCase == DestinationMessage.BodyOneofCase.Failure)
                    await BreakAsync(FailureOnWire.ToException(message.Failure), keepReceiving: true).ConfigureAwait(false);
                else if (_waiting.TryRemove(message.Request, out var answer))
                    answer.TrySetResult(message);
            }
        }
        catch (OperationCanceledException) when (_disposing.IsCancellationRequested)
        {
            // The migration is over; nobody waits any more.
        }
        catch (Exception exception)
        {
            await BreakAsync(
                exception as PhaulException
                    ?? new PhaulException(PhaulErrorId.ConnectionLost, $"The connection to the destination broke: {exception.Message}", exception),
                keepReceiving: false).ConfigureAwait(false);
        }
    }

    private async Task BreakAsync(PhaulException fault, bool keepReceiving)
    {
        Fault ??= fault;
        // While the connection lives, an answer to Abort must still be able to come.
        if (!keepReceiving)
        {
            _isDeaf = true;
            foreach (var request in _waiting.Keys)
            {
                if (_waiting.TryRemove(request, out var answer))
                    answer.TrySetException(fault);
            }
        }

        await _broken.CancelAsync().ConfigureAwait(false);
    }

    private void ThrowIfBroken()
    {
        if (_isDeaf || (Fault is not null && !IsConnected))
            throw Fault!;
    }
}
