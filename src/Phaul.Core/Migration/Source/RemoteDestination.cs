// The destination, as the source calls it over the connection: requests answered by number, failures thrown as exceptions.

using Phaul.Images.Pages;
using Phaul.Transport;
using Phaul.Wire;

namespace Phaul;

/// <summary>Speaks to the other host's <c>DestinationMigration</c>.</summary>
internal sealed class RemoteDestination : IPhaulRemote, IAsyncDisposable
{
    private readonly Conversation _conversation;
    private bool _running;

    /// <param name="connection">Disposed with it.</param>
    public RemoteDestination(PhaulConnection connection)
    {
        Connection = connection;
        _conversation = new Conversation(connection);
    }

    /// <summary>The connection, for its data channels.</summary>
    public PhaulConnection Connection { get; }

    /// <summary>Cancelled when the migration cannot succeed any more; <see cref="Fault"/> says why.</summary>
    public CancellationToken Broken => _conversation.Broken;

    /// <summary>Why it is broken.</summary>
    public PhaulException? Fault => _conversation.Fault;

    /// <summary>Whether the connection still carries messages.</summary>
    public bool IsConnected => _conversation.IsConnected;

    /// <summary>What the next iteration may send at most, so that the destination can check its disk; 0 if not known.</summary>
    public long ExpectedBytes { get; set; }

    /// <summary>Whether the next iteration is the last, and its memory follows when it is asked for.</summary>
    public bool MemoryFollows { get; set; }

    /// <summary>Whose pages the last iteration that was stopped has brought there.</summary>
    public IReadOnlyList<PageOwner> Owners { get; private set; } = [];

    /// <summary>Where the destination keeps what it receives; null before <see cref="BeginAsync"/>.</summary>
    public string? ImagesDirectory { get; private set; }

    /// <summary>Connects to the destination of a migration.</summary>
    /// <exception cref="PhaulException">It cannot be reached, or is not who it should be.</exception>
    public static async Task<RemoteDestination> ConnectAsync(MigrationRequest request, CancellationToken cancellationToken) =>
        new(await PhaulConnector.ConnectAsync(
            request.Destination, request.ConnectTimeout, new ConnectionOptions { PeerTimeout = request.PeerTimeout }, cancellationToken)
            .ConfigureAwait(false));

    public async Task<IReadOnlyList<CheckResult>> BeginAsync(Begin begin, CancellationToken cancellationToken)
    {
        var answer = await _conversation.RequestAsync(new SourceMessage { Begin = begin }, DestinationMessage.BodyOneofCase.Checked, cancellationToken)
            .ConfigureAwait(false);
        ImagesDirectory = answer.Checked.ImagesDirectory is { Length: > 0 } directory ? directory : null;
        return answer.Checked.Checks
            .Select(check => new CheckResult(
                check.Name, MigrationSide.Destination, Connection.Peer.HostName, WireEnum.Parse<CheckVerdict>(check.Verdict),
                check.Message, check.Remedy.Length > 0 ? check.Remedy : null))
            .ToArray();
    }

    public async Task StartIterationAsync(CancellationToken cancellationToken = default)
    {
        var start = new StartIteration { ExpectedBytes = (ulong)Math.Max(0, ExpectedBytes), MemoryFollows = MemoryFollows };
        await _conversation.RequestAsync(new SourceMessage { StartIteration = start }, DestinationMessage.BodyOneofCase.Done, cancellationToken)
            .ConfigureAwait(false);
    }

    public async Task StopIterationAsync(CancellationToken cancellationToken = default)
    {
        // The last iteration was stopped before the restore; what runs needs no page server.
        if (_running)
            return;
        var answer = await _conversation.RequestAsync(
            new SourceMessage { StopIteration = new StopIteration() }, DestinationMessage.BodyOneofCase.Done, cancellationToken)
            .ConfigureAwait(false);
        Owners = [.. answer.Done.Owners.Select(PageOwner.FromWire)];
    }

    public async Task<ImagesReceived> SendImagesAsync(Func<CancellationToken, Task> send, CancellationToken cancellationToken)
    {
        var (request, answer) = await _conversation.SendAsync(new SourceMessage { ReceiveImages = new ReceiveImages() }, cancellationToken)
            .ConfigureAwait(false);
        await send(cancellationToken).ConfigureAwait(false);
        return (await _conversation.AnswerAsync(request, answer, DestinationMessage.BodyOneofCase.ImagesReceived, cancellationToken)
            .ConfigureAwait(false)).ImagesReceived;
    }

    public async Task<Prepared> RestoreAsync(CancellationToken cancellationToken) =>
        (await _conversation.RequestAsync(new SourceMessage { Restore = new Restore() }, DestinationMessage.BodyOneofCase.Prepared, cancellationToken)
            .ConfigureAwait(false)).Prepared;

    public async Task<Running> CommitAsync(CancellationToken cancellationToken)
    {
        var answer = await _conversation.RequestAsync(new SourceMessage { Commit = new Commit() }, DestinationMessage.BodyOneofCase.Running, cancellationToken)
            .ConfigureAwait(false);
        return answer.Running;
    }

    /// <summary>Comes back when the program that runs there has all its memory.</summary>
    /// <exception cref="PhaulException">ProgramLost, or why it cannot be known.</exception>
    public Task AwaitMemoryAsync(CancellationToken cancellationToken) => _conversation.RequestAsync(
        new SourceMessage { AwaitMemory = new AwaitMemory() }, DestinationMessage.BodyOneofCase.Done, cancellationToken, Timeout.InfiniteTimeSpan);

    /// <summary>The program runs there: iterations are over, whatever this connection says.</summary>
    public void MarkRunning() => _running = true;

    public async Task<Discarded> AbortAsync(string reason, CancellationToken cancellationToken) =>
        (await _conversation.RequestAsync(
            new SourceMessage { Abort = new Abort { Reason = reason } }, DestinationMessage.BodyOneofCase.Discarded, cancellationToken)
            .ConfigureAwait(false)).Discarded;

    /// <summary>Ends it without a restore there: an engine of the source's own has done that.</summary>
    public Task ReleaseAsync(CancellationToken cancellationToken) => _conversation.RequestAsync(
        new SourceMessage { Abort = new Abort { Reason = "an engine of the source's own restored the program", IsRestoredElsewhere = true } },
        DestinationMessage.BodyOneofCase.Discarded, cancellationToken);

    public async Task<DestinationMessage> SettleAsync(string migrationId, Settle.Types.Verdict verdict, CancellationToken cancellationToken) =>
        await _conversation.RequestAsync(
            new SourceMessage { Settle = new Settle { MigrationId = migrationId, Verdict = verdict } },
            verdict == Settle.Types.Verdict.Committed
                ? DestinationMessage.BodyOneofCase.Running
                : verdict == Settle.Types.Verdict.Ask ? DestinationMessage.BodyOneofCase.Standing : DestinationMessage.BodyOneofCase.Discarded,
            cancellationToken).ConfigureAwait(false);

    /// <summary>Over a server's control socket: has it settle what it holds.</summary>
    public async Task<Resolved> ResolveAsync(string migrationId, OperatorWord word, string by, CancellationToken cancellationToken) =>
        (await _conversation.RequestAsync(
            new SourceMessage { Resolve = new Resolve { MigrationId = migrationId, Word = word.ToString(), By = by } },
            DestinationMessage.BodyOneofCase.Resolved, cancellationToken).ConfigureAwait(false)).Resolved;

    /// <summary>One-way: for the destination's own records.</summary>
    public Task RecordAsync(SourceMessage message, CancellationToken cancellationToken) => _conversation.WriteAsync(message, cancellationToken);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _conversation.DisposeAsync();
}
