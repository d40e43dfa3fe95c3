// Settling on the destination what an earlier server left: from its journal, its images and a verdict.

using System.Text.Json;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Images.Pages;
using Phaul.Journal;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Preflight;
using Phaul.Procfs;
using Phaul.Wire;
using Verdict = Phaul.Wire.Settle.Types.Verdict;

namespace Phaul;

/// <summary>
/// What is done about a migration that nobody holds in memory. The journal says how far it had come; a verdict that was carried
/// out already is confirmed, so that it may be given as often as one likes.
/// </summary>
internal sealed class DestinationRecovery
{
    private static readonly TimeSpan DeathLimit = TimeSpan.FromSeconds(30);

    private readonly StateDirectory _stateDirectory;
    private readonly string _criuPath;
    private readonly bool _followCriuLog;
    private readonly IProgress<MigrationEvent>? _observer;

    public DestinationRecovery(StateDirectory stateDirectory, string criuPath, bool followCriuLog, IProgress<MigrationEvent>? observer) =>
        (_stateDirectory, _criuPath, _followCriuLog, _observer) = (stateDirectory, criuPath, followCriuLog, observer);

    /// <summary>How it ended here.</summary>
    /// <param name="State">The state now.</param>
    /// <param name="RootPid">The root pid here, where it runs.</param>
    /// <param name="Found">What was found.</param>
    /// <param name="Done">What was done; null: nothing.</param>
    /// <param name="HasEnded">It ran here, and has ended.</param>
    /// <param name="ImagesDirectory">Where images are kept; null: they are not.</param>
    public sealed record Outcome(
        MigrationState State, int RootPid, string Found, string? Done, bool HasEnded = false, string? ImagesDirectory = null);

    /// <summary>Carries out a source's verdict.</summary>
    /// <exception cref="PhaulException">There is no such migration, the verdict contradicts it, or CRIU could not restore.</exception>
    public async Task<DestinationMessage> SettleAsync(
        string migrationId, Verdict verdict, string? peerFingerprint, CancellationToken cancellationToken)
    {
        if (verdict == Verdict.Ask && !File.Exists(_stateDirectory.JournalPath(migrationId, MigrationSide.Destination)))
            return new DestinationMessage { Standing = new Standing() };
        var contents = await ReadAsync(migrationId, cancellationToken).ConfigureAwait(false);
        if (contents.Records.OfType<PeerMet>().LastOrDefault() is { } peer)
            RequirePeer(peer.Fingerprint, peerFingerprint);
        if (verdict == Verdict.Ask)
            return new DestinationMessage { Standing = new Standing { State = StateOf(contents).ToString() } };
        var outcome = await RecoverAsync(migrationId, contents, verdict, byWord: false, "the source", cancellationToken).ConfigureAwait(false);
        if (outcome.State == MigrationState.Lost)
            throw Lost(outcome.Found);
        return outcome.State == MigrationState.Running
            ? new DestinationMessage { Running = new Running { RootPid = outcome.RootPid } }
            : new DestinationMessage { Discarded = new Discarded { ImagesDirectory = outcome.ImagesDirectory ?? "" } };
    }

    /// <summary>
    /// Settles what can be settled: by the operator's word where it needs one; without it where the journal alone tells how it
    /// must end. Null: it needs the word, or the source.
    /// </summary>
    /// <exception cref="PhaulException">There is no such migration, the word contradicts it, or CRIU could not restore.</exception>
    public async Task<Outcome?> ResolveAsync(string migrationId, OperatorWord word, string by, CancellationToken cancellationToken)
    {
        var contents = await ReadAsync(migrationId, cancellationToken).ConfigureAwait(false);
        var states = StatesOf(contents);
        // Whoever has asked for the commit has seen the source tree die; who was never told Prepared cannot have let it die.
        Verdict? verdict = states.Any(change => change.State is MigrationState.Committing or MigrationState.Running or MigrationState.Lost) ? Verdict.Committed
            : states.All(change => change.State is not (MigrationState.Prepared or MigrationState.InDoubt)) ? Verdict.RolledBack
            : word switch
            {
                OperatorWord.SourceIsGone => Verdict.Committed,
                OperatorWord.SourceIsRunning => Verdict.RolledBack,
                _ => null,
            };
        return verdict is null ? null : await RecoverAsync(
            migrationId, contents, verdict.Value, word == OperatorWord.SourceIsGone, by, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>A verdict counts only from the host that began the migration: any other trusted peer could end it otherwise.</summary>
    /// <exception cref="PhaulException">It is another.</exception>
    public static void RequirePeer(string? began, string? settles)
    {
        if (began == settles)
            return;
        throw new PhaulException(PhaulErrorId.InDoubt, "The migration was begun by another host, or by this one with another certificate")
        {
            RecommendedAction =
                "Settle it with the certificate that it was begun with; if that is gone, on the destination: Resolve-PhaulMigration / phaul resolve.",
        };
    }

    /// <summary>The last state that a journal tells.</summary>
    public static MigrationState StateOf(JournalContents contents) =>
        StatesOf(contents) is { Count: > 0 } states ? states[^1].State : MigrationState.Accepted;

    private static IReadOnlyList<MigrationStateChange> StatesOf(JournalContents contents) =>
        contents.Records.OfType<StateEntered>().Select(record => record.Change).ToArray();

    private async Task<JournalContents> ReadAsync(string migrationId, CancellationToken cancellationToken)
    {
        var path = _stateDirectory.JournalPath(migrationId, MigrationSide.Destination);
        if (!File.Exists(path))
        {
            throw new PhaulException(PhaulErrorId.InDoubt, $"This host has no record of migration {migrationId}")
            {
                RecommendedAction = $"Is this the right host, and its state directory the right one ({_stateDirectory.Path})?",
            };
        }

        return await JournalReader.ReadAsync(path, cancellationToken).ConfigureAwait(false);
    }

    private async Task<Outcome> RecoverAsync(
        string migrationId, JournalContents before, Verdict verdict, bool byWord, string by, CancellationToken cancellationToken)
    {
        var prepared = before.Records.OfType<Journal.Prepared>().LastOrDefault();
        switch (StateOf(before), verdict)
        {
            case (MigrationState.Running, Verdict.Committed) when !MigrationSummary.LacksMemory(before.Records) && !HasMemoryOnSource(before.Records):
                return new Outcome(MigrationState.Running, prepared?.RootPid ?? 0, "it was committed and resumed here", null);
            case (MigrationState.Lost, Verdict.Committed):
                return new Outcome(MigrationState.Lost, prepared?.RootPid ?? 0, StatesOf(before)[^1].Reason ?? "its memory was lost here", null);
            case (MigrationState.Discarded, Verdict.RolledBack):
                return new Outcome(MigrationState.Discarded, 0, "it was discarded here", null);
            case (MigrationState.Running or MigrationState.Lost, Verdict.RolledBack) or (MigrationState.Discarded, _):
                throw new PhaulException(PhaulErrorId.InDoubt, $"Here the migration has ended as {StateOf(before)}, which contradicts the source");
            // It may run: killing it on a word that cannot be true could kill the only copy.
            case (MigrationState.Committing, Verdict.RolledBack):
                throw new PhaulException(PhaulErrorId.InDoubt, "Here the commit has begun, which a source that rolled back cannot have asked for");
        }

        await using var journal = await MigrationJournal.OpenForRecoveryAsync(
            _stateDirectory, migrationId, MigrationSide.Destination, cancellationToken).ConfigureAwait(false);
        // Read again under the lock: whoever had it may have settled it meanwhile.
        var contents = await JournalReader.ReadAsync(journal.Path, cancellationToken).ConfigureAwait(false);
        if (StateOf(contents) != StateOf(before))
            throw new PhaulException(PhaulErrorId.JournalFailed, $"Migration {migrationId} is just being settled by somebody else");
        await using var recorder = new MigrationRecorder(MigrationSide.Destination, migrationId, journal, _observer);
        recorder.Continue(contents);
        var outcome = verdict == Verdict.Committed
            ? await CommitAsync(contents, recorder, byWord, cancellationToken).ConfigureAwait(false)
            : await DiscardAsync(contents, recorder, _criuPath).ConfigureAwait(false);
        await recorder.WriteIfPossibleAsync(new Resolution($"{outcome.Found}; {outcome.Done}", by)).ConfigureAwait(false);
        await FinishAsync(contents, recorder, outcome).ConfigureAwait(false);
        return outcome;
    }

    private static async Task<Outcome> DiscardAsync(JournalContents contents, MigrationRecorder recorder, string criuPath)
    {
        var prepared = contents.Records.OfType<Journal.Prepared>().LastOrDefault();
        var alive = Alive(prepared);
        var found = (prepared, alive.Count) switch
        {
            (null, _) => "nothing had been prepared here",
            (_, 0) => "the restored tree is gone",
            _ => "the restored tree is still held",
        };
        if (alive.Count > 0)
        {
            switch (HeldTasks.Look(alive.Select(process => process.Pid)))
            {
                case TreeHold.Unknown:
                    throw TreeResumption.CannotTell(prepared!.RootPid, null);
                case TreeHold.Running:
                    throw new PhaulException(
                        PhaulErrorId.InDoubt, $"The restored tree (pid {prepared!.RootPid}) runs here, which a source that rolled back cannot have asked for");
            }
        }

        await KillAsync(alive, recorder).ConfigureAwait(false);
        // CRIU may have been lost together with its server, in the middle of the restore
        if (prepared is null && recorder.State == MigrationState.Restoring)
            await AbandonedTasks.KillAsync(PidsOf(contents), criuPath).ConfigureAwait(false);
        await EndDaemonsAsync(contents).ConfigureAwait(false);
        if (recorder.States.Count == 0)
            await recorder.EnterAsync(MigrationState.Accepted).ConfigureAwait(false);
        await recorder.EnterAsync(MigrationState.Discarded, prepared is null ? "the server ended" : "the source tree runs").ConfigureAwait(false);
        return new Outcome(MigrationState.Discarded, 0, found, "discarded: the program is not here", ImagesDirectory: prepared?.ImagesDirectory);
    }

    /// <summary>Who was dumped: the root by the journal, everybody that has memory by the images.</summary>
    private static IReadOnlyList<int> PidsOf(JournalContents contents)
    {
        var root = contents.Records.OfType<Begun>().Take(1).Select(begun => begun.Pid);
        var owners = contents.Records.OfType<ImagesPlace>().LastOrDefault() is { } place && Directory.Exists(place.Directory)
            ? Directory.EnumerateDirectories(place.Directory).SelectMany(PagemapImage.OwnersIn)
            : [];
        return [.. root.Union(owners.Where(owner => owner is { Kind: PageOwnerKind.Task, Id: <= int.MaxValue }).Select(owner => (int)owner.Id))];
    }

    private async Task<Outcome> CommitAsync(
        JournalContents contents, MigrationRecorder recorder, bool byWord, CancellationToken cancellationToken)
    {
        var prepared = contents.Records.OfType<Journal.Prepared>().LastOrDefault()
            ?? throw new PhaulException(PhaulErrorId.InDoubt, $"The migration was never prepared here; it had come to {recorder.State}");
        // CRIU kills what it holds when it loses its server, and says so, also after the server had journalled that it would resume.
        var wasResuming = contents.Records.LastOrDefault(record => record is Journal.Prepared or Resuming or NeverRan) is Resuming;
        var hasRun = wasResuming ? CriuLastWord.OfRestore(prepared.ImagesDirectory) : false;
        var alive = Alive(prepared);
        if (HasMemoryOnSource(contents.Records) && (alive.Count > 0 || hasRun != true || contents.Records.Any(record => record is MemoryLost)
            || prepared.BootId != ProcessIdentity.BootId().ToString()))
            return await LoseAsync(contents, prepared, recorder).ConfigureAwait(false);
        if (StateOf(contents) == MigrationState.Running)
            return await ReplaceStandingAsync(contents, prepared, recorder, cancellationToken).ConfigureAwait(false);
        var hold = alive.Count > 0 ? HeldTasks.Look(alive.Select(process => process.Pid)) : (TreeHold?)null;
        if (hold == TreeHold.Unknown)
            throw TreeResumption.CannotTell(prepared.RootPid, null);
        if (hold == TreeHold.Running)
        {
            await ReachCommittingAsync(recorder).ConfigureAwait(false);
            await recorder.EnterAsync(MigrationState.Running, "found running").ConfigureAwait(false);
            if (MigrationSummary.LacksMemory(contents.Records))
                return await ReplaceStandingAsync(contents, prepared, recorder, cancellationToken).ConfigureAwait(false);
            return new Outcome(MigrationState.Running, prepared.RootPid, "the restored tree runs", "recorded that it runs here");
        }

        if (hold is null && hasRun is null && !byWord)
            throw await CannotKnowAsync(prepared, recorder).ConfigureAwait(false);
        if (hold is null && hasRun == true)
        {
            await ReachCommittingAsync(recorder).ConfigureAwait(false);
            // Restored once more it would do again what it has done since: it has ended, as a program does, or with the host.
            await recorder.EnterAsync(MigrationState.Running, "it was resumed, and has ended since").ConfigureAwait(false);
            if (MigrationSummary.LacksMemory(contents.Records))
            {
                RequireNoStrays(prepared);
                await EndDaemonsAsync(contents).ConfigureAwait(false);
                await recorder.WriteAsync(new MemoryComplete()).ConfigureAwait(false);
            }

            return new Outcome(
                MigrationState.Running, prepared.RootPid, "the restored tree was resumed, and has ended since",
                $"recorded that it ran here; it was not restored a second time (its images are kept in {prepared.ImagesDirectory})", HasEnded: true);
        }

        await ReachCommittingAsync(recorder).ConfigureAwait(false);
        await recorder.WriteAsync(new NeverRan(), durable: true).ConfigureAwait(false);
        await KillAsync(alive, recorder).ConfigureAwait(false);
        await EndDaemonsAsync(contents).ConfigureAwait(false);
        var pid = await RestoreAgainAsync(prepared, recorder, cancellationToken).ConfigureAwait(false);
        return new Outcome(
            MigrationState.Running, pid,
            hold is null ? "the restored tree is gone, and never ran" : "the restored tree was held by nobody any more, and never ran",
            "restored again from its images and run");
    }

    /// <summary>The error for a program that nobody can make whole again.</summary>
    public static PhaulException Lost(string why) => new(PhaulErrorId.ProgramLost, $"The program is lost: {why}")
    {
        Host = Environment.MachineName,
        Step = MigrationState.Lost,
        ProgramState = ProgramState.Gone,
        RecommendedAction = "Start the program anew. Where a broken link must not cost a program, use -Mode PreCopy or StopAndCopy.",
    };

    /// <summary>Whether some of its memory was still to come from the source, over a connection that is gone with its server.</summary>
    private static bool HasMemoryOnSource(IReadOnlyList<JournalRecord> records) =>
        records.OfType<Begun>().FirstOrDefault() is { } begun && RequestRules.LeavesMemoryBehind(begun.Mode)
        && !records.Any(record => record is MemoryComplete);

    /// <summary>Nobody can make it whole again: its memory was on the source, and went with the connection.</summary>
    private static async Task<Outcome> LoseAsync(JournalContents contents, Journal.Prepared prepared, MigrationRecorder recorder)
    {
        var alive = Alive(prepared);
        await ReachCommittingAsync(recorder).ConfigureAwait(false);
        if (alive.Count > 0 && recorder.State == MigrationState.Running && HasAllMemory(contents, alive))
        {
            await EndDaemonsAsync(contents).ConfigureAwait(false);
            await recorder.WriteAsync(new MemoryComplete(), durable: true).ConfigureAwait(false);
            return new Outcome(MigrationState.Running, prepared.RootPid, "the restored tree runs and has all its memory", "recorded that it runs here");
        }

        await recorder.WriteAsync(new MemoryLost(), durable: true).ConfigureAwait(false);
        await KillWithChildrenAsync(alive).ConfigureAwait(false);
        RequireNoStrays(prepared);
        await EndDaemonsAsync(contents).ConfigureAwait(false);
        await recorder.EnterAsync(
            MigrationState.Lost, "the server ended before the source had given the program all its memory", durable: true).ConfigureAwait(false);
        return new Outcome(
            MigrationState.Lost, prepared.RootPid, "the restored tree lacked memory that was on the source alone", "ended what was left of it: the program is lost");
    }

    /// <summary>
    /// Whether the server was killed between the last page and its record: nobody lacks any, and the holder shows that nobody was given
    /// zeros in place of it. Not what somebody has given up already: it may be dying, or have been let go of.
    /// </summary>
    private static bool HasAllMemory(JournalContents contents, IReadOnlyList<JournaledProcess> alive) =>
        !contents.Records.Any(record => record is MemoryLost)
        && alive.All(process => LateMemoryCheck.IsLate(ProcFileSystem.Host, process.Pid) == false)
        && contents.Records.OfType<ImagesPlace>().LastOrDefault() is { } place && DescriptorHolder.HoldsAllFor(place.Directory);

    /// <summary>
    /// It ran, and stands still wherever it needs memory that the server before would have given it. Its images are whole: it goes on
    /// from them, and what it did since is lost.
    /// </summary>
    private async Task<Outcome> ReplaceStandingAsync(
        JournalContents contents, Journal.Prepared prepared, MigrationRecorder recorder, CancellationToken cancellationToken)
    {
        var alive = Alive(prepared);
        // Somebody had begun to replace it: what is there now has all its memory, if it has begun to run
        var again = contents.Records.SkipWhile(record => record is not MemoryLost).Skip(1).ToArray();
        bool isReplacement = again.Any(record => record is Journal.Prepared);
        bool? runs = (alive.Count > 0, isReplacement) switch
        {
            (true, false) => HasAllMemory(contents, alive),
            (true, true) => HeldTasks.Look(alive.Select(process => process.Pid)) switch
            {
                TreeHold.Running => true,
                TreeHold.Held => false,
                _ => throw TreeResumption.CannotTell(prepared.RootPid, null),
            },
            (false, false) => !contents.Records.Any(record => record is MemoryLost),
            (false, true) => again.LastOrDefault(record => record is Journal.Prepared or Resuming or NeverRan) is Resuming
                ? CriuLastWord.OfRestore(prepared.ImagesDirectory)
                : false,
        };
        if (runs is null)
            throw await CannotKnowAsync(prepared, recorder).ConfigureAwait(false);
        if (runs.Value)
        {
            RequireNoStrays(prepared);
            await EndDaemonsAsync(contents).ConfigureAwait(false);
            await recorder.WriteAsync(new MemoryComplete(), durable: true).ConfigureAwait(false);
            return alive.Count > 0
                ? new Outcome(MigrationState.Running, prepared.RootPid, "the restored tree runs and has all its memory", "recorded that it runs here")
                : new Outcome(
                    MigrationState.Running, prepared.RootPid, "the restored tree ran, and has ended since",
                    $"recorded that it ran here; it was not restored again (its images are kept in {prepared.ImagesDirectory})", HasEnded: true);
        }

        RequireImages(prepared);
        await recorder.WriteAsync(new MemoryLost(), durable: true).ConfigureAwait(false);
        await recorder.WarnAsync(
            "The server that gave the program its memory ended before the program had all of it. What the program did on this host is lost: " +
            "it was killed and goes on from the moment of the hand-over.").ConfigureAwait(false);
        await KillWithChildrenAsync(alive).ConfigureAwait(false);
        RequireNoStrays(prepared);
        await EndDaemonsAsync(contents).ConfigureAwait(false);
        var pid = await RestoreAgainAsync(prepared, recorder, cancellationToken).ConfigureAwait(false);
        return new Outcome(
            MigrationState.Running, pid, "the restored tree stood still: it lacked memory, and the server that had it is gone",
            "restored again from its images and run");
    }

    /// <summary>Everything died in the moment of the resume, and CRIU's log does not say how it ended: a loss of power.</summary>
    private static async Task<PhaulException> CannotKnowAsync(Journal.Prepared prepared, MigrationRecorder recorder)
    {
        var error = new PhaulException(
            PhaulErrorId.InDoubt, "The restored tree was just being resumed when this host went down: whether it had begun to run cannot be known")
        {
            ProgramState = ProgramState.Unknown,
            RecommendedAction =
                $"If it is to run (again) as it was at the freeze: on the destination, Resolve-PhaulMigration -SourceIsGone / phaul resolve --source-is-gone. " +
                $"Its images are in {prepared.ImagesDirectory}.",
        };
        if (recorder.State is not (MigrationState.InDoubt or MigrationState.Running))
            await recorder.EnterAsync(MigrationState.InDoubt, error.Message, durable: true).ConfigureAwait(false);
        return error;
    }

    private static IReadOnlyList<JournaledProcess> Alive(Journal.Prepared? prepared) =>
        prepared is null || prepared.BootId != ProcessIdentity.BootId().ToString()
            ? []
            : [.. prepared.Processes.Where(IsAlive)];

    private static bool IsAlive(JournaledProcess process)
    {
        using var descriptor = ProcessDescriptor.TryOpen(process.Pid);
        return descriptor is { HasExited: false } && ProcessIdentity.StartTime(process.Pid) == (ulong)process.StartTimeTicks;
    }

    /// <summary>A CRIU that was killed while it held a tree leaves it asleep; it has not run, and its pids are needed.</summary>
    private static async Task KillAsync(IReadOnlyList<JournaledProcess> processes, MigrationRecorder recorder)
    {
        foreach (var process in processes)
        {
            using var descriptor = ProcessDescriptor.TryOpen(process.Pid);
            // Looked at again with the pidfd in hand: the pid may have become another's in between.
            if (descriptor is null || ProcessIdentity.StartTime(process.Pid) != (ulong)process.StartTimeTicks)
                continue;
            await recorder.WarnAsync($"{process.Command} ({process.Pid}), restored earlier, was killed.").ConfigureAwait(false);
            descriptor.SendSignal(Libc.SignalKill);
            await descriptor.WaitForExitAsync(CancellationToken.None).WaitAsync(DeathLimit).ConfigureAwait(false);
        }
    }

    /// <summary>Before anything is killed: what would be restored in its place.</summary>
    private static void RequireImages(Journal.Prepared prepared)
    {
        if (File.Exists(Path.Combine(prepared.ImagesDirectory, "inventory.img")))
            return;
        throw new PhaulException(
            PhaulErrorId.InDoubt,
            $"The journal says that the program (pid {prepared.RootPid}) lacks memory, but its images in {prepared.ImagesDirectory} are gone. " +
            "It was left alone")
        {
            ProgramState = ProgramState.Unknown,
            RecommendedAction = "See whether the program works. If it does, nothing is to be done; its journal may be removed.",
        };
    }

    // What runs has perhaps children that it had not when it was restored, also below members whose parents have ended
    private static async Task KillWithChildrenAsync(IReadOnlyList<JournaledProcess> alive)
    {
        foreach (var process in alive.Where(IsAlive))
        {
            using var watch = TreeWatch.Open(ProcessTree.Capture(process.Pid));
            // Looked at again with the pidfds in hand
            if (!IsAlive(process))
                continue;
            watch.Kill();
            if (!await watch.WaitAllExitedAsync(DeathLimit, CancellationToken.None).ConfigureAwait(false))
            {
                throw new PhaulException(
                    PhaulErrorId.InDoubt, $"Killed processes do not exit: {string.Join(", ", watch.Alive.Select(member => member.Pid))}")
                {
                    RecommendedAction = "See /proc/PID/stack. Resolve it again when they are gone.",
                };
            }
        }
    }

    /// <summary>
    /// A daemon that ends gives whoever still lacks memory zeros. Children of the tree that outlived it cannot be told from another
    /// migration's processes: a person looks.
    /// </summary>
    private static void RequireNoStrays(Journal.Prepared prepared)
    {
        var strays = LateMemoryCheck.StraysOf(
            ProcFileSystem.Host, prepared.Processes.Select(process => process.Pid), (ulong)prepared.Processes.Min(process => process.StartTimeTicks));
        if (strays.Count == 0)
            return;
        throw new PhaulException(
            PhaulErrorId.InDoubt,
            $"Processes that lack memory live on: {string.Join(", ", strays.Take(5).Select(stat => $"{stat.Command} ({stat.Pid})"))}. " +
            "If they are the program's, it forked them after the hand-over")
        {
            ProgramState = ProgramState.Unknown,
            RecommendedAction = "End those that are the program's, with SIGKILL, and resolve it again. Those of another migration will have their memory soon.",
        };
    }

    private static async Task EndDaemonsAsync(JournalContents contents)
    {
        if (contents.Records.OfType<ImagesPlace>().LastOrDefault() is not { } images)
            return;
        await LazyPagesDaemon.EndThoseOfAsync(images.Directory).ConfigureAwait(false);
        await DescriptorHolder.EndThoseOfAsync(images.Directory).ConfigureAwait(false);
    }

    private static async Task ReachCommittingAsync(MigrationRecorder recorder)
    {
        if (recorder.State == MigrationState.Prepared)
            await recorder.EnterAsync(MigrationState.InDoubt, "an earlier server ended").ConfigureAwait(false);
        if (recorder.State is not (MigrationState.Committing or MigrationState.Running))
            await recorder.EnterAsync(MigrationState.Committing, "the source tree is gone", durable: true).ConfigureAwait(false);
    }

    private async Task<int> RestoreAgainAsync(Journal.Prepared prepared, MigrationRecorder recorder, CancellationToken cancellationToken)
    {
        if (LateMemoryOnSource.IsNeededFor(prepared.ImagesDirectory))
            throw Lost("its images lack the memory that was on the source");
        var restore = prepared.RestoreOptions is { ValueKind: JsonValueKind.String } json
            ? ProcessOptionsOnWire.FromMessage(RestoreOptions.Parser.ParseJson(json.GetString()!))
            : new ProcessOptions();
        await using var criuLog = CriuLogFollower.For(recorder, Path.GetDirectoryName(prepared.ImagesDirectory)!, _followCriuLog);
        await using var criu = new CriuClient(new CriuClientOptions { CriuPath = _criuPath, RequestTimeout = PhaulServer.RestoreLimit });
        async Task<HeldTree> RestoreAsync(CancellationToken token)
        {
            // A CRIU that was killed in the middle of an earlier attempt has left tasks that sleep on, with the program's pids
            await AbandonedTasks.KillAsync([.. prepared.Processes.Select(process => process.Pid)], _criuPath).ConfigureAwait(false);
            var tree = await HeldTree.RestoreEagerlyAsync(criu, prepared.ImagesDirectory, restore, token).ConfigureAwait(false);
            await recorder.WriteAsync(
                prepared with
                {
                    RootPid = tree.Tree.RootPid,
                    BootId = tree.Tree.BootId,
                    Processes = tree.Tree.Members
                        .Select(member => new JournaledProcess(member.Pid, (long)member.StartTime, member.Command)).ToArray(),
                },
                durable: true).ConfigureAwait(false);
            return tree;
        }

        HeldTree? held = null;
        try
        {
            held = await RestoreAsync(cancellationToken).ConfigureAwait(false);
            held = await TreeResumption.RunAsync(
                held,
                async (lost, why) =>
                {
                    await recorder.WarnAsync($"{why}. It is restored once more.").ConfigureAwait(false);
                    await lost.DiscardAsync().ConfigureAwait(false);
                    await lost.DisposeAsync().ConfigureAwait(false);
                    return held = await RestoreAsync(CancellationToken.None).ConfigureAwait(false);
                },
                recorder, durable: true).ConfigureAwait(false);
            await recorder.WriteIfPossibleAsync(new MemoryComplete()).ConfigureAwait(false);
            if (recorder.State != MigrationState.Running)
                await recorder.EnterIfPossibleAsync(MigrationState.Running).ConfigureAwait(false);
            return held.Tree.RootPid;
        }
        finally
        {
            if (held is not null)
                await held.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <summary>The result, as a server would have written it, and no images of a program that runs.</summary>
    private async Task FinishAsync(JournalContents contents, MigrationRecorder recorder, Outcome outcome)
    {
        var begun = contents.Records.OfType<Begun>().FirstOrDefault();
        var images = contents.Records.OfType<ImagesPlace>().LastOrDefault()?.Directory;
        if (images is not null && outcome is { State: MigrationState.Running, HasEnded: false } && begun is { KeepImages: false }
            && WorkDirectory.TryRemove(images) is { } obstacle)
        {
            await recorder.WarnAsync($"The images in {images} could not be removed: {obstacle}").ConfigureAwait(false);
        }

        if (begun is null)
            return;
        var result = ResolvedResult.Of(begun, contents, recorder) with
        {
            State = outcome.State,
            ProgramState = outcome switch
            {
                { HasEnded: true } or { State: MigrationState.Lost } => ProgramState.Gone,
                { State: MigrationState.Running } => ProgramState.RunningOnDestination,
                _ => ProgramState.RunningOnSource,
            },
            DestinationPid = outcome.State == MigrationState.Running ? outcome.RootPid : null,
            ImagesDirectory = images is not null && Directory.Exists(images) ? images : null,
        };
        await recorder.WriteIfPossibleAsync(new Finished(result), durable: true).ConfigureAwait(false);
    }
}
