// A migration as its caller sees it: what was asked for, the checks alone, the whole. How it goes is SourceRun's.

using Phaul.Engines;
using Phaul.Journal;
using Phaul.Transport;

namespace Phaul;

/// <summary>
/// Moves one process tree to a destination that runs a <see cref="DestinationServer"/>. Made for one run: a second migration
/// takes a second object.
/// </summary>
/// <example>
/// <code>
/// var request = new MigrationRequest { Pid = 4711, Destination = new MigrationEndpoint { Host = "b", Certificate = mine, TrustedFingerprints = [theirs] } };
/// var result = await new SourceMigration(request).RunAsync(cancellationToken);
/// Console.WriteLine($"down for {result.Downtime?.TotalMilliseconds} ms, now pid {result.DestinationPid} on {result.DestinationHost}");
/// </code>
/// </example>
public sealed class SourceMigration
{
    private readonly IProgress<MigrationEvent>? _observer;
    private readonly StateDirectory _stateDirectory;
    private int _started;

    /// <summary>Makes a migration; nothing is touched yet.</summary>
    /// <param name="request">What to do.</param>
    /// <param name="observer">
    /// Told of everything that happens, in order, on no particular thread; it must return quickly and must not call back.
    /// </param>
    public SourceMigration(MigrationRequest request, IProgress<MigrationEvent>? observer = null)
    {
        ArgumentNullException.ThrowIfNull(request);
        Request = request;
        _observer = observer;
        _stateDirectory = new StateDirectory(request.StateDirectory);
        MigrationId = Journal.MigrationId.New();
    }

    /// <summary>What was asked for.</summary>
    public MigrationRequest Request { get; }

    /// <summary>The id, known from the beginning.</summary>
    public string MigrationId { get; }

    /// <summary>Only the checks, on both hosts; touches nothing. One result a check, failed ones included.</summary>
    /// <exception cref="PhaulException">The checks themselves could not be made (no connection, no such process).</exception>
    public async Task<IReadOnlyList<CheckResult>> CheckAsync(CancellationToken cancellationToken = default)
    {
        RequestRules.Check(Request);
        var tree = CaptureTree();
        await using var remote = await RemoteDestination.ConnectAsync(Request, cancellationToken).ConfigureAwait(false);
        return await Preflight(tree).RunAsync(remote, checkOnly: true, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Migrates. Cancelling before the commit rolls back; afterwards it has no effect.</summary>
    /// <exception cref="PhaulException">
    /// It did not complete; <see cref="PhaulException.ProgramState"/> says where the program is, and
    /// <see cref="PhaulException.Result"/> what had been done.
    /// </exception>
    public async Task<PhaulMigrationResult> RunAsync(CancellationToken cancellationToken = default)
    {
        if (Interlocked.Exchange(ref _started, 1) != 0)
            throw new InvalidOperationException("A migration can be run once.");
        _ = JitWarmUp.Completion;
        RequestRules.Check(Request);
        var tree = CaptureTree();
        var notices = await HousekeepAsync(cancellationToken).ConfigureAwait(false);
        var workDirectory = WorkDirectory.For(ImagesPath, MigrationId, MigrationSide.Source);
        await using var recorder = await BeginJournalAsync(tree, workDirectory, cancellationToken).ConfigureAwait(false);
        var run = new SourceRun(Request, tree, Preflight(tree), workDirectory, recorder, _stateDirectory);
        try
        {
            await recorder.EnterAsync(MigrationState.Connecting).ConfigureAwait(false);
            await recorder.WarnAsync(notices).ConfigureAwait(false);
            await run.MigrateAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (recorder.State == MigrationState.Completed)
        {
            // The program runs there: whatever goes wrong now is worth a word, and no more.
            await recorder.WarnAsync($"After the hand-over: {exception.Message}").ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            throw await run.FailAsync(exception, cancellationToken).ConfigureAwait(false);
        }

        return await run.FinishAsync().ConfigureAwait(false);
    }

    private string ImagesPath => Request.WorkDirectory ?? _stateDirectory.ImagesPath;

    private ProcessTree CaptureTree()
    {
        var tree = ProcessTree.Capture(Request.Pid);
        return Request.ProcessStartTime is not { } began || began == tree.Root.StartTime
            ? tree
            : throw new PhaulException(
                PhaulErrorId.ProcessNotFound, $"Process {Request.Pid} has ended, and {tree.Root.Command} has its pid now")
            {
                ProgramState = ProgramState.Gone,
            };
    }

    /// <summary>What failed migrations and old records take is given back first.</summary>
    /// <returns>What of it did not work: no reason not to migrate.</returns>
    private async Task<IReadOnlyList<string>> HousekeepAsync(CancellationToken cancellationToken)
    {
        var notices = new List<string>();
        await FailedImages.TrimAsync(
            _stateDirectory, ImagesPath, MigrationSide.Source, Request.MaxFailedImages, Request.FailedImagesRetention, notices.Add,
            cancellationToken).ConfigureAwait(false);
        await new MigrationHistory(_stateDirectory).ForgetOldAsync(notices.Add, cancellationToken).ConfigureAwait(false);
        return notices;
    }

    private MigrationPreflight Preflight(ProcessTree tree) => new(Request, MigrationId, tree, _stateDirectory);

    private async Task<MigrationRecorder> BeginJournalAsync(ProcessTree tree, WorkDirectory workDirectory, CancellationToken cancellationToken)
    {
        var journal = await MigrationJournal.CreateAsync(_stateDirectory, MigrationId, MigrationSide.Source, cancellationToken).ConfigureAwait(false);
        await journal.AppendAsync(
            new Begun(
                MigrationId, MigrationSide.Source, Environment.MachineName, Request.Mode, Request.Pid, tree.Root.Command,
                Request.Destination.ToString(), workDirectory.Path)
            {
                PhaulVersion = PhaulVersion.Current,
                KeepImages = Request.KeepImages,
            },
            durable: false, cancellationToken).ConfigureAwait(false);
        await journal.AppendAsync(tree.ToRecord(), durable: false, cancellationToken).ConfigureAwait(false);
        return new MigrationRecorder(MigrationSide.Source, MigrationId, journal, _observer);
    }
}
