// Whoever gives a restored tree the memory that it lacks.

namespace Phaul.Memory;

/// <summary>Memory that a task lacks.</summary>
/// <param name="Pid">Whose: the pid in the images.</param>
/// <param name="Range">Where it is lacking.</param>
internal readonly record struct LackingMemory(ulong Pid, LateRange Range);

/// <summary>Gives a tree its memory while it runs already: <c>criu lazy-pages</c>, or this process.</summary>
internal interface ILateMemory : IAsyncDisposable
{
    /// <summary>Whether it is this process that gives it.</summary>
    bool NeedsThisProcess { get; }

    /// <summary>Whether it was killed, as opposed to having found something that it could not do.</summary>
    bool WasKilled { get; }

    /// <summary>Sees to it that the tree stands still, rather than reading zeros, if whoever gives it its memory dies.</summary>
    /// <param name="tasks">How many tasks were restored, each of which hands over its memory.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">RestoreFailed: not all of them have done so.</exception>
    Task HoldMemoryAsync(int tasks, CancellationToken cancellationToken);

    /// <summary>To be called when the tree is about to run.</summary>
    void WatchHeld();

    /// <summary>Waits until the tree has all its memory. Cancelling ends only this wait.</summary>
    /// <exception cref="PhaulException">RestoreFailed: it will not get the rest.</exception>
    Task WaitAsync(CancellationToken cancellationToken);

    /// <summary>What nobody was given yet; ends the giving, so only when the tree is dead. Empty where that is not known.</summary>
    Task<IReadOnlyList<LackingMemory>> LackingAsync();

    /// <summary>Leaves it as it is: a tree that lives may need it still.</summary>
    ValueTask ReleaseAsync();
}
