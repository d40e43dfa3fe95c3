// A page server that was started for one iteration.
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>
/// A page server process. It ends when its one connection does; one whose peer never comes would stay for ever, so disposing
/// of this kills it.
/// </summary>
public sealed class PageServerChild : IAsyncDisposable
{
    private readonly CriuSession _session;
    private readonly CriuClientOptions _options;
    private readonly ProcessDescriptor _process;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private ExitStatus? _status;

    internal PageServerChild(int pid, int port, CriuSession session, CriuClientOptions options)
    {
        (Pid, Port, _session, _options) = (pid, port, session, options);
        // CRIU, its parent, has not waited for it: the pid cannot be another's by now.
        _process = ProcessDescriptor.Open(pid);
    }

    /// <summary>Its pid.</summary>
    public int Pid { get; }

    /// <summary>The TCP port that it listens on; meaningless if it was given a connected socket.</summary>
    public int Port { get; }

    internal bool IsDisposed { get; private set; }

    /// <summary>Waits until it has ended. Cancelling ends only this wait.</summary>
    /// <returns>How it ended.</returns>
    /// <exception cref="CriuException">CRIU does not tell.</exception>
    public async Task<ExitStatus> WaitForExitAsync(CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, this);
        // CRIU blocks in WAIT_PID and cannot be called back, so it is only asked when the answer is there.
        await _process.WaitForExitAsync(cancellationToken).ConfigureAwait(false);
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            return _status ??= await AskAsync(cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>Kills it if it still runs, and ends the CRIU that started it.</summary>
    public async ValueTask DisposeAsync()
    {
        if (IsDisposed) return;
        IsDisposed = true;
        _process.SendSignal(Libc.SignalKill);
        await _session.EndAsync().ConfigureAwait(false);
        _process.Dispose();
    }

    private async Task<ExitStatus> AskAsync(CancellationToken cancellationToken)
    {
        var request = new CriuRequest { Type = CriuRequestKind.WaitPid, Pid = (uint)Pid };
        var response = await CriuAnswer.OfAsync(_session, request, null, _options, cancellationToken).ConfigureAwait(false);
        // This swrk has nothing left to do, and while it lives the peer of the memory socket does not see its end.
        await _session.EndAsync().ConfigureAwait(false);
        return ExitStatus.FromWaitStatus(response.Status);
    }
}
