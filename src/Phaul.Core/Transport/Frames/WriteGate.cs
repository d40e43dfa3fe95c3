// Who may write to the stream next: one at a time, control before data, otherwise in order of arrival.

namespace Phaul.Transport;

internal sealed class WriteGate
{
    private readonly object _sync = new();
    private readonly Queue<TaskCompletionSource> _urgent = new();
    private readonly Queue<TaskCompletionSource> _ordinary = new();
    private Exception? _closed;
    private readonly TaskCompletionSource _idle = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _held;

    /// <summary>Completes when the gate is closed and nobody holds it any more.</summary>
    public Task Idle => _idle.Task;

    /// <summary>Waits for the turn. Whoever gets it calls <see cref="Exit"/>.</summary>
    public ValueTask EnterAsync(bool urgent, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        TaskCompletionSource turn;
        lock (_sync)
        {
            if (_closed is not null)
                return ValueTask.FromException(_closed);
            if (!_held)
            {
                _held = true;
                return ValueTask.CompletedTask;
            }

            turn = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            (urgent ? _urgent : _ordinary).Enqueue(turn);
        }

        return new ValueTask(WaitAsync(turn, cancellationToken));
    }

    public void Exit()
    {
        lock (_sync)
        {
            // A waiter that was cancelled meanwhile stays in its queue and is passed over here.
            while (_urgent.TryDequeue(out TaskCompletionSource? next) || _ordinary.TryDequeue(out next))
            {
                if (next.TrySetResult())
                    return;
            }

            _held = false;
            if (_closed is not null)
                _idle.TrySetResult();
        }
    }

    /// <summary>Fails all that wait and all that come. Who holds the gate keeps it until it exits.</summary>
    public void Close(Exception reason)
    {
        lock (_sync)
        {
            _closed ??= reason;
            while (_urgent.TryDequeue(out TaskCompletionSource? next) || _ordinary.TryDequeue(out next))
                next.TrySetException(_closed);
            if (!_held)
                _idle.TrySetResult();
        }
    }

    private static async Task WaitAsync(TaskCompletionSource turn, CancellationToken cancellationToken)
    {
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static (state, token) => ((TaskCompletionSource)state!).TrySetCanceled(token), turn);
        await turn.Task.ConfigureAwait(false);
    }
}
