// The destination, as the source calls it over the connection: requests answered by number, failures thrown as exceptions.

using System.Collections.Concurrent;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>Speaks to the other host's <c>DestinationMigration</c>.</summary>
internal sealed class RemoteDestination : IPhaulRemote, IAsyncDisposable
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
    private uint _iteration;
    private bool _running;
    private volatile bool _isDeaf;

    public RemoteDestination(PhaulConnection connection)
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

    /// <summary>What the next iteration may send at most, so that the destination can check its disk; 0 if not known.</summary>
    public long ExpectedBytes { get; set; }

    /// <summary>Whether the next iteration is the final dump.</summary>
    public bool Final { get; set; }

    public async Task<IReadOnlyList<CheckResult>> BeginAsync(Begin begin, CancellationToken cancellationToken)
    {
        var answer = await RequestAsync(new SourceMessage { Begin = begin }, DestinationMessage.BodyOneofCase.Checked, cancellationToken)
            .ConfigureAwait(false);
        return answer.Checked.Checks
            .Select(check => new CheckResult(
                check.Name, MigrationSide.Destination, _connection.Peer.HostName, WireEnum.Parse<CheckVerdict>(check.Verdict),
                check.Message, check.Remedy.Length > 0 ? check.Remedy : null))
            .ToArray();
    }

    public async Task StartIterationAsync(CancellationToken cancellationToken = default)
    {
        var start = new StartIteration { Index = ++_iteration, Final = Final, ExpectedBytes = (ulong)Math.Max(0, ExpectedBytes) };
        await RequestAsync(new SourceMessage { StartIteration = start }, DestinationMessage.BodyOneofCase.Done, cancellationToken)
            .ConfigureAwait(false);
    }

    public async Task StopIterationAsync(CancellationToken cancellationToken = default)
    {
        // The last iteration was stopped before the restore; what runs needs no page server.
        if (_running)
            return;
        await RequestAsync(
            new SourceMessage { StopIteration = new StopIteration() }, DestinationMessage.BodyOneofCase.Done, cancellationToken)
            .ConfigureAwait(false);
    }

    public async Task<ImagesReceived> SendImagesAsync(Func<CancellationToken, Task> send, CancellationToken cancellationToken)
    {
        var (request, answer) = await SendAsync(new SourceMessage { ReceiveImages = new ReceiveImages() }, cancellationToken)
            .ConfigureAwait(false);
        await send(cancellationToken).ConfigureAwait(false);
        return (await AnswerAsync(request, answer, DestinationMessage.BodyOneofCase.ImagesReceived, cancellationToken)
            .ConfigureAwait(false)).ImagesReceived;
    }

    public async Task<Prepared> RestoreAsync(CancellationToken cancellationToken) =>
        (await RequestAsync(new SourceMessage { Restore = new Restore() }, DestinationMessage.BodyOneofCase.Prepared, cancellationToken)
            .ConfigureAwait(false)).Prepared;

    public async Task<Running> CommitAsync(CancellationToken cancellationToken)
    {
        var answer = await RequestAsync(new SourceMessage { Commit = new Commit() }, DestinationMessage.BodyOneofCase.Running, cancellationToken)
            .ConfigureAwait(false);
        return answer.Running;
    }

    /// <summary>The program runs there: iterations are over, whatever this connection says.</summary>
    public void MarkRunning() => _running = true;

    public async Task<Discarded> AbortAsync(string reason, CancellationToken cancellationToken) =>
        (await RequestAsync(
            new SourceMessage { Abort = new Abort { Reason = reason } }, DestinationMessage.BodyOneofCase.Discarded, cancellationToken)
            .ConfigureAwait(false)).Discarded;

    public async Task<DestinationMessage> SettleAsync(string migrationId, Settle.Types.Verdict verdict, CancellationToken cancellationToken) =>
        await RequestAsync(
            new SourceMessage { Settle = new Settle { MigrationId = migrationId, Verdict = verdict } },
            verdict == Settle.Types.Verdict.Committed
                ? DestinationMessage.BodyOneofCase.Running
                : verdict == Settle.Types.Verdict.Ask ? DestinationMessage.BodyOneofCase.Standing : DestinationMessage.BodyOneofCase.Discarded,
            cancellationToken).ConfigureAwait(false);

    /// <summary>Over a server's control socket: has it settle what it holds.</summary>
    public async Task<Resolved> ResolveAsync(string migrationId, OperatorWord word, string by, CancellationToken cancellationToken) =>
        (await RequestAsync(
            new SourceMessage { Resolve = new Resolve { MigrationId = migrationId, Word = word.ToString(), By = by } },
            DestinationMessage.BodyOneofCase.Resolved, cancellationToken).ConfigureAwait(false)).Resolved;

    /// <summary>One-way: for the destination's own records.</summary>
    public Task RecordAsync(SourceMessage message, CancellationToken cancellationToken) => WriteAsync(message, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await _disposing.CancelAsync().ConfigureAwait(false);
        await _connection.DisposeAsync().ConfigureAwait(false);
        await _receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _broken.Dispose();
        _disposing.Dispose();
        _sending.Dispose();
    }

    private async Task<DestinationMessage> RequestAsync(
        SourceMessage message, DestinationMessage.BodyOneofCase expected, CancellationToken cancellationToken)
    {
        var (request, answer) = await SendAsync(message, cancellationToken).ConfigureAwait(false);
        return await AnswerAsync(request, answer, expected, cancellationToken).ConfigureAwait(false);
    }

    private async Task<(ulong Request, Task<DestinationMessage> Answer)> SendAsync(SourceMessage message, CancellationToken cancellationToken)
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

    private async Task<DestinationMessage> AnswerAsync(
        ulong request, Task<DestinationMessage> answer, DestinationMessage.BodyOneofCase expected, CancellationToken cancellationToken)
    {
        DestinationMessage message;
        try
        {
            message = await answer.WaitAsync(RequestLimit, cancellationToken).ConfigureAwait(false);
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

    private async Task WriteAsync(SourceMessage message, CancellationToken cancellationToken)
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
