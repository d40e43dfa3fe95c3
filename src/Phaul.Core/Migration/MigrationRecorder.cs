// The single place at which a migration changes state: it checks the change, journals it and tells the observers.

using System.Diagnostics;
using Phaul.Journal;

namespace Phaul;

/// <summary>Records one side of one migration.</summary>
internal sealed class MigrationRecorder : IAsyncDisposable
{
    private readonly MigrationJournal _journal;
    private readonly IProgress<MigrationEvent>? _observer;
    private readonly object _telling = new();
    private readonly SemaphoreSlim _changing = new(1, 1);
    private readonly List<MigrationStateChange> _states = [];
    private readonly List<string> _warnings = [];
    private readonly List<PhaulIteration> _iterations = [];
    private readonly Stopwatch _elapsed = Stopwatch.StartNew();

    public MigrationRecorder(MigrationSide side, string migrationId, MigrationJournal journal, IProgress<MigrationEvent>? observer)
    {
        (Side, MigrationId, _journal, _observer) = (side, migrationId, journal, observer);
        StartTime = DateTimeOffset.Now;
    }

    public MigrationSide Side { get; }

    public string MigrationId { get; }

    public DateTimeOffset StartTime { get; }

    public TimeSpan Elapsed => _elapsed.Elapsed;

    /// <summary>The current state; of no meaning until one was entered.</summary>
    public MigrationState State { get; private set; }

    public IReadOnlyList<MigrationStateChange> States { get { lock (_telling) return _states.ToArray(); } }

    public IReadOnlyList<string> Warnings { get { lock (_telling) return _warnings.ToArray(); } }

    public IReadOnlyList<PhaulIteration> Iterations { get { lock (_telling) return _iterations.ToArray(); } }

    public bool IsFinal => _states.Count > 0 && MigrationTransitions.IsFinal(Side, State);

    /// <summary>Enters a state: journal first, then the observers, so that nothing is shown that a crash would forget.</summary>
    /// <param name="durable">Come back only when the record is on disk.</param>
    /// <exception cref="InvalidOperationException">The state cannot follow the current one: a mistake in Phaul.</exception>
    /// <exception cref="PhaulException">The journal could not be written.</exception>
    public async Task EnterAsync(MigrationState state, string? reason = null, bool durable = false)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            var first = _states.Count == 0;
            if (first ? state != MigrationTransitions.First(Side) : !MigrationTransitions.IsAllowed(Side, State, state))
                throw new InvalidOperationException($"{Side}: {state} cannot follow {(first ? "nothing" : State)}.");
            var change = new MigrationStateChange(Side, state, DateTimeOffset.Now, reason);
            await _journal.AppendAsync(new StateEntered(change), durable, CancellationToken.None).ConfigureAwait(false);
            lock (_telling)
            {
                State = state;
                _states.Add(change);
            }

            Tell(new StateChangedEvent(MigrationId, change.Time, change));
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <summary>Takes up a journal where an earlier process left it.</summary>
    public void Continue(IReadOnlyList<MigrationStateChange> states, IReadOnlyList<PhaulIteration> iterations)
    {
        lock (_telling)
        {
            _states.AddRange(states);
            _iterations.AddRange(iterations);
            State = states[^1].State;
        }
    }

    /// <summary>The same, from what the journal holds.</summary>
    public void Continue(JournalContents contents)
    {
        var states = contents.Records.OfType<StateEntered>().Select(record => record.Change).ToArray();
        if (states.Length > 0)
            Continue(states, contents.Records.OfType<IterationFinished>().Select(record => record.Iteration).ToArray());
    }

    public Task WriteAsync(JournalRecord record, bool durable = false) => _journal.AppendAsync(record, durable, CancellationToken.None);

    /// <summary>For records after the commit: the hand-over must not fail because a disk is full.</summary>
    /// <returns>Whether it was written.</returns>
    public async Task<bool> WriteIfPossibleAsync(JournalRecord record, bool durable = false)
    {
        try
        {
            await WriteAsync(record, durable).ConfigureAwait(false);
            return true;
        }
        catch (Exception exception) when (exception is PhaulException or IOException)
        {
            Warn($"The journal could not be written: {exception.Message}");
            return false;
        }
    }

    /// <summary>As <see cref="EnterAsync"/>, for states after the commit: a full disk is a warning there, the state is entered all the same.</summary>
    public async Task EnterIfPossibleAsync(MigrationState state, string? reason = null, bool durable = false)
    {
        try
        {
            await EnterAsync(state, reason, durable).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is PhaulException or IOException)
        {
            Warn($"The journal could not be written: {exception.Message}");
            var change = new MigrationStateChange(Side, state, DateTimeOffset.Now, reason);
            lock (_telling)
            {
                State = state;
                _states.Add(change);
            }

            Tell(new StateChangedEvent(MigrationId, change.Time, change));
        }
    }

    public async Task RecordIterationAsync(PhaulIteration iteration)
    {
        lock (_telling)
            _iterations.Add(iteration);
        await WriteIfPossibleAsync(new IterationFinished(iteration)).ConfigureAwait(false);
        Tell(new IterationCompletedEvent(MigrationId, DateTimeOffset.Now, iteration));
    }

    public async Task WarnAsync(string message)
    {
        Warn(message);
        await WriteIfPossibleAsync(new Warning(message)).ConfigureAwait(false);
    }

    public async Task WarnAsync(IEnumerable<string> messages)
    {
        foreach (var message in messages)
            await WarnAsync(message).ConfigureAwait(false);
    }

    public void Story(string message) => Tell(new StoryEvent(MigrationId, DateTimeOffset.Now, message));

    public void Tell(MigrationEvent what)
    {
        // The lock keeps events in order for observers; observers are told not to call back.
        lock (_telling)
        {
            try
            {
                _observer?.Report(what);
            }
            catch (Exception)
            {
                // Whoever watches does not decide what becomes of a program.
            }
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _journal.DisposeAsync().ConfigureAwait(false);
        _changing.Dispose();
    }

    private void Warn(string message)
    {
        lock (_telling)
            _warnings.Add(message);
        Tell(new WarningEvent(MigrationId, DateTimeOffset.Now, message));
    }
}
