// A restored tree that has not run an instruction: held in CRIU's post-restore until somebody decides.

using Phaul.Criu;
using Phaul.Engines;
using Phaul.Images.Pages;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Preflight;
using Phaul.Procfs;

namespace Phaul;

/// <summary>Restores a tree and holds it. Exactly one of <see cref="ResumeAsync"/> and <see cref="DiscardAsync"/> ends it.</summary>
internal sealed class HeldTree : IAsyncDisposable
{
    private static readonly TimeSpan DeathLimit = TimeSpan.FromSeconds(30);

    // What CRIU has to do when those die that it resumes takes milliseconds
    private static readonly TimeSpan GiveUpLimit = TimeSpan.FromSeconds(5);

    // At which CRIU logs that it has resumed the tasks
    private const int InformationLevel = 3;

    private readonly TaskCompletionSource<bool> _verdict = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<int> _prepared = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _resumed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _callOff = new();
    private Task<int> _restoring = null!;
    private CriuClient _criu = null!;
    private string _logDirectory = "";
    private bool _logTells;
    private bool _gaveUp;
    private TreeWatch _watch = null!;
    private bool _wasKilled;

    private HeldTree()
    {
    }

    /// <summary>Gives it its memory while it runs already; null if it has all of it.</summary>
    private ILateMemory? _lateMemory;

    /// <summary>The tree: who is held.</summary>
    public ProcessTree Tree { get; private set; } = null!;

    /// <summary>Restores and comes back when the tree is held.</summary>
    /// <exception cref="CriuException">CRIU could not restore it; nothing is left of it.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing is left of it.</exception>
    public static async Task<HeldTree> RestoreEagerlyAsync(
        CriuClient criu, string imagesDirectory, ProcessOptions options, CancellationToken cancellationToken)
    {
        try
        {
            return await RestoreAndHoldAsync(criu, new LateImages(imagesDirectory, imagesDirectory), options, null, cancellationToken).ConfigureAwait(false);
        }
        catch (CriuException exception) when (exception.Kind == CriuFailure.Refused && WholeImages.MayHelp(exception.LogTail))
        {
            string? whole;
            try
            {
                whole = await Task.Run(() => WholeImages.Make(imagesDirectory, cancellationToken), cancellationToken).ConfigureAwait(false);
            }
            catch (PhaulException joining)
            {
                throw new PhaulException(joining.ErrorId, $"{exception.Message}; and {joining.Message}", exception) { RecommendedAction = joining.RecommendedAction };
            }

            if (whole is null)
                throw;
            return await RestoreAndHoldAsync(criu, new LateImages(whole, imagesDirectory), options, null, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>As <see cref="RestoreEagerlyAsync"/>, but most of the memory follows when the tree runs: see <see cref="WaitForMemoryAsync"/>.</summary>
    /// <exception cref="CriuException">CRIU could not restore it; nothing is left of it.</exception>
    /// <exception cref="PhaulException">RestoreFailed: it cannot be restored so; nothing is left of it.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; nothing is left of it.</exception>
    public static async Task<HeldTree> RestoreLazilyAsync(
        CriuClient criu, string criuPath, LateImages images, ProcessOptions options, CancellationToken cancellationToken,
        DescriptorHolder? holder = null)
    {
        ILateMemory lateMemory = images.Store is { } store
            ? await MemoryServer.StartAsync(store, images.WorkDirectory, holder).ConfigureAwait(false)
            : await LazyPagesDaemon.StartAsync(criuPath, images.Directory, options.LogLevel, cancellationToken).ConfigureAwait(false);
        try
        {
            return await RestoreAndHoldAsync(criu, images, options, lateMemory, cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await lateMemory.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private static async Task<HeldTree> RestoreAndHoldAsync(
        CriuClient criu, LateImages images, ProcessOptions options, ILateMemory? lateMemory, CancellationToken cancellationToken)
    {
        var held = new HeldTree
        {
            _lateMemory = lateMemory,
            _criu = criu,
            _logDirectory = images.WorkDirectory,
            _logTells = options.LogLevel >= InformationLevel,
        };
        // Once prepared, the source's verdict ends it and nothing else: the caller's token counts until then.
        await using var _ = cancellationToken.Register(held._callOff.Cancel).ConfigureAwait(false);
        held._restoring = held.RunCriuAsync(criu, images, options, held._callOff.Token);
        // Tasks in the making wait for memory that never comes
        var losesMemory = await held.LosesMemoryBeforeAsync(held._prepared.Task).ConfigureAwait(false);
        if (losesMemory)
            await held._callOff.CancelAsync().ConfigureAwait(false);
        await Task.WhenAny(held._prepared.Task, held._restoring).ConfigureAwait(false);
        if (!held._prepared.Task.IsCompletedSuccessfully)
        {
            try
            {
                await held._restoring.ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (losesMemory && !cancellationToken.IsCancellationRequested)
            {
                await SayWhyMemoryFailedAsync(lateMemory!).ConfigureAwait(false);
                throw;
            }

            throw new PhaulException(PhaulErrorId.RestoreFailed, "CRIU restored the tree without having it held");
        }

        try
        {
            held.Tree = ProcessTree.Capture(await held._prepared.Task.ConfigureAwait(false));
            held._watch = TreeWatch.Open(held.Tree);
            if (lateMemory is not null)
                await lateMemory.HoldMemoryAsync(held._watch.Alive.Count, held._callOff.Token).ConfigureAwait(false);
            return held;
        }
        catch
        {
            held._verdict.TrySetResult(false);
            await ((Task)held._restoring).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            held._watch?.Dispose();
            if (losesMemory && !cancellationToken.IsCancellationRequested)
                await SayWhyMemoryFailedAsync(lateMemory!).ConfigureAwait(false);
            throw;
        }
    }

    // Nobody called it off: its memory failed, and that is what the caller is to hear
    private static Task SayWhyMemoryFailedAsync(ILateMemory lateMemory) => lateMemory.WaitAsync(CancellationToken.None);

    /// <summary>The restore, from beginning to end: CRIU waits in post-restore for the verdict, and with it everything that it restored.</summary>
    private async Task<int> RunCriuAsync(CriuClient criu, LateImages images, ProcessOptions options, CancellationToken cancellationToken)
    {
        using var directory = DirectoryDescriptor.Open(images.Directory);
        using var workDirectory = DirectoryDescriptor.Open(images.WorkDirectory);
        return await criu.RestoreAsync(
            RestoreRequest.ForRestore(options, directory, workDirectory, IsLazy),
            new CriuNotifications(async (notification, callOff) =>
            {
                switch (notification.Kind)
                {
                    case CriuNotificationKind.PostRestore:
                        _prepared.TrySetResult(notification.Pid ?? 0);
                        return await _verdict.Task.WaitAsync(callOff).ConfigureAwait(false);
                    case CriuNotificationKind.PostResume:
                        _resumed.TrySetResult();
                        return true;
                    default:
                        return true;
                }
            }),
            cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Ends when CRIU has, whether it was told to or not.</summary>
    public Task Ended => _restoring;

    /// <summary>Lets it run and comes back when it does.</summary>
    /// <exception cref="CriuException">CRIU failed at it. What became of the tree is not known; see <see cref="Look"/>.</exception>
    public async Task ResumeAsync()
    {
        _lateMemory?.WatchHeld();
        if (!_verdict.TrySetResult(true))
            throw new InvalidOperationException("It has been decided already.");
        using var come = new CancellationTokenSource();
        var death = GiveUpOnTheDeadAsync(come.Token);
        try
        {
            if (await LosesMemoryBeforeAsync(_resumed.Task).ConfigureAwait(false))
            {
                // CRIU waits for tasks that wait for memory that never comes
                _wasKilled = true;
                _watch.Kill();
            }

            var first = await Task.WhenAny(_resumed.Task, _restoring).ConfigureAwait(false);
            await first.ConfigureAwait(false);
        }
        finally
        {
            await come.CancelAsync().ConfigureAwait(false);
            await death.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// A tree that dies just when CRIU attaches to it (its memory lost, or no memory left on the host) is waited for by CRIU for ever:
    /// criu/cr-restore.c, attach_to_tasks, whose failure is not looked at. There is nothing left then that CRIU could do.
    /// </summary>
    private async Task GiveUpOnTheDeadAsync(CancellationToken cancellationToken)
    {
        while (!await _watch.WaitAllExitedAsync(DeathLimit, cancellationToken).ConfigureAwait(false))
        {
        }

        await Task.Delay(GiveUpLimit, cancellationToken).ConfigureAwait(false);
        _gaveUp = true;
        _criu.Kill();
    }

    /// <summary>
    /// Whether it died before CRIU let it run: CRIU had to be given up, and has not logged that it resumed the tasks. Only when
    /// <see cref="ResumeAsync"/> has failed; false where the log does not tell.
    /// </summary>
    public bool DiedHeld => _gaveUp && _logTells && CriuLastWord.OfRestore(_logDirectory) != true;

    /// <summary>Whether the giving of memory fails before something else comes, or CRIU ends.</summary>
    private async Task<bool> LosesMemoryBeforeAsync(Task awaited)
    {
        using var come = new CancellationTokenSource();
        var failure = FailureOfMemoryAsync(come.Token);
        var first = await Task.WhenAny(awaited, _restoring, failure).ConfigureAwait(false);
        await come.CancelAsync().ConfigureAwait(false);
        await failure.ConfigureAwait(false);
        return first == failure;
    }

    /// <summary>Ends when that has failed, or nobody wants to know any more: complete, it cannot fail.</summary>
    private async Task FailureOfMemoryAsync(CancellationToken cancellationToken)
    {
        var memory = _lateMemory?.WaitAsync(cancellationToken) ?? Task.CompletedTask;
        await memory.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!memory.IsFaulted)
            await Task.Delay(Timeout.Infinite, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    /// <summary>Whether some of its memory may not be there yet.</summary>
    public bool IsLazy => _lateMemory is not null;

    /// <summary>Whether this process gives it that memory, as opposed to a daemon that goes on by itself.</summary>
    public bool NeedsThisProcess => _lateMemory is { NeedsThisProcess: true };

    /// <summary>Waits until it has all its memory. Cancelling ends only this wait.</summary>
    /// <exception cref="PhaulException">RestoreFailed: it will not get the rest, and what it reads there is wrong.</exception>
    public Task WaitForMemoryAsync(CancellationToken cancellationToken) =>
        _lateMemory?.WaitAsync(cancellationToken) ?? Task.CompletedTask;

    /// <summary>
    /// Whether there may be processes that it forked, that left it, and that lack memory: they stand still, and would read zeros if whoever
    /// holds their memory let go of it. Another migration's count as well: that is only careful.
    /// </summary>
    public bool HasLeftStrays => _resumed.Task.IsCompletedSuccessfully && NeedsThisProcess
        && LateMemoryCheck.StraysOf(ProcFileSystem.Host, Tree.Members.Select(member => member.Pid), Tree.Root.StartTime).Count > 0;

    /// <summary>What it lacks still, by the pid in the images; only when it is dead. Empty where that is not known.</summary>
    public Task<IReadOnlyList<LackingMemory>> LackingAsync() =>
        _lateMemory?.LackingAsync() ?? Task.FromResult<IReadOnlyList<LackingMemory>>([]);

    /// <summary>
    /// Whether it has ended while it got its memory, and not for want of it: the daemon then finds nobody to give it to. Only once
    /// <see cref="WaitForMemoryAsync"/> has failed.
    /// </summary>
    public bool HasEndedByItself => !_wasKilled && !HasLeftStrays && _lateMemory is { WasKilled: false } && _watch.Alive.Count == 0;

    /// <summary>Ends it, and sees that it is gone.</summary>
    /// <returns>Whether it is gone.</returns>
    public async Task<bool> DiscardAsync()
    {
        _verdict.TrySetResult(false);
        await ((Task)_restoring).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        KillWhatItForked();
        // CRIU kills what it restored; a CRIU that died held leaves it asleep for ever.
        _watch.Kill();
        return await _watch.WaitAllExitedAsync(DeathLimit, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Whether CRIU has ended by itself, before it was decided.</summary>
    public bool IsAbandoned => _restoring.IsCompleted && !_verdict.Task.IsCompleted;

    /// <summary>What is left of it once CRIU has ended; null: nothing.</summary>
    public TreeHold? Look() => _watch.Alive is { Count: > 0 } alive ? HeldTasks.Look(alive.Select(member => member.Pid)) : null;

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _verdict.TrySetResult(false);
        await ((Task)_restoring).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_lateMemory is { } lateMemory)
        {
            // A tree that lives may need it still
            await (_watch.Alive.Count == 0 && !HasLeftStrays ? lateMemory.DisposeAsync() : lateMemory.ReleaseAsync()).ConfigureAwait(false);
        }

        _watch.Dispose();
        _callOff.Dispose();
    }

    // A tree that ran has perhaps children that it had not when it was restored.
    private void KillWhatItForked()
    {
        if (_watch.Alive.All(member => member.Pid != Tree.RootPid))
            return;
        try
        {
            var now = ProcessTree.Capture(Tree.RootPid);
            if (now.Root.StartTime != Tree.Root.StartTime)
                return;
            using var watch = TreeWatch.Open(now);
            watch.Kill();
        }
        catch (Exception exception) when (exception is PhaulException or NativeException)
        {
            // It has just ended by itself.
        }
    }
}
