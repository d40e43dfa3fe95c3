// Settling on the source what a crash has left: looks at the tree, and tells the destination.

using Phaul.Journal;
using Phaul.Wire;
using Verdict = Phaul.Wire.Settle.Types.Verdict;

namespace Phaul;

/// <summary>
/// Alive: rolled back, and the destination discards. Gone after the commit was decided: the destination runs it. Gone before: it
/// ended by itself, or with this host, and only a person can say whether a copy on the destination is still wanted.
/// </summary>
internal sealed class SourceRecovery
{
    private readonly StateDirectory _stateDirectory;
    private readonly ResolveOptions _options;
    private readonly IProgress<MigrationEvent>? _observer;

    public SourceRecovery(StateDirectory stateDirectory, ResolveOptions options, IProgress<MigrationEvent>? observer) =>
        (_stateDirectory, _options, _observer) = (stateDirectory, options, observer);

    /// <exception cref="PhaulException">The journal cannot be written, or the tree cannot be looked at.</exception>
    public async Task<MigrationResolution> ResolveAsync(MigrationSummary summary, CancellationToken cancellationToken)
    {
        if (summary.IsRunning)
            return Resolutions.Of(summary, ResolutionOutcome.InProgress, "its process is alive") with { Remains = "Wait for it." };
        if (!summary.NeedsResolution)
            return Resolutions.Of(summary, ResolutionOutcome.AlreadySettled, $"it ended as {summary.State}");
        await using var journal = await MigrationJournal.OpenForRecoveryAsync(
            _stateDirectory, summary.MigrationId, MigrationSide.Source, cancellationToken).ConfigureAwait(false);
        var contents = await JournalReader.ReadAsync(journal.Path, cancellationToken).ConfigureAwait(false);
        await using var recorder = new MigrationRecorder(MigrationSide.Source, summary.MigrationId, journal, _observer);
        recorder.Continue(contents);
        return await new Case(this, summary, contents, recorder).SettleAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>One migration being settled.</summary>
    private sealed class Case(SourceRecovery recovery, MigrationSummary summary, JournalContents contents, MigrationRecorder recorder)
    {
        private readonly PeerMet? _peer = contents.Records.OfType<PeerMet>().LastOrDefault();

        // A destination is asked to restore in Transferring: before that it holds nothing that could run.
        private readonly bool _mayBeHeld = recorder.States.Any(change => change.State is MigrationState.Transferring);

        public async Task<MigrationResolution> SettleAsync(CancellationToken cancellationToken)
        {
            var committed = contents.Records.Any(record => record is CommitIntent);
            var identity = contents.Records.OfType<TreeIdentity>().LastOrDefault();
            if (contents.Records.Any(record => record is TreeGone))
                return await CommitAsync("the source tree had been seen to be gone", cancellationToken).ConfigureAwait(false);
            // Rolled back by the migration itself; what is left is to say so.
            if (recorder.State == MigrationState.RolledBack)
                return await RollBackAsync("it was rolled back, and the destination was not told", summary.ProgramState, cancellationToken).ConfigureAwait(false);
            if (identity is null)
                return await RollBackAsync("it had not come to the program yet", ProgramState.RunningOnSource, cancellationToken).ConfigureAwait(false);

            var tree = await SourceTree.LookAsync(identity, cancellationToken).ConfigureAwait(false);
            // Where memory stays behind CRIU never kills, and what its log says of letting go is no news of the tree
            var killed = contents.Records.OfType<Begun>().FirstOrDefault() is { } begun && RequestRules.LeavesMemoryBehind(begun.Mode)
                ? null
                : CriuLastWord.OfDump(contents.Records.OfType<ImagesPlace>().LastOrDefault()?.Directory);
            switch (tree.Fate)
            {
                // CRIU kills the root first: with that alive it has not begun, and what else is gone has ended by itself
                case TreeFate.Alive:
                    return await RollBackAsync(tree.Words, ProgramState.RunningOnSource, cancellationToken).ConfigureAwait(false);
                case TreeFate.InPart when committed && killed == true:
                    if (!await SourceTree.KillRestAsync(identity).ConfigureAwait(false))
                        return Unresolved(tree.Words, "Killed processes do not exit; see /proc/PID/stack. Resolve it again when they are gone.");
                    return await CommitAsync($"{tree.Words}; CRIU had ended while it was killing them, and the rest was killed", cancellationToken)
                        .ConfigureAwait(false);
                case TreeFate.InPart when !_mayBeHeld:
                    return await RollBackAsync($"{tree.Words}, and nothing had been handed over", ProgramState.RunningOnSource, cancellationToken)
                        .ConfigureAwait(false);
                case TreeFate.InPart:
                    return Unresolved(tree.Words, "If what is left is of no use, end it and resolve again. If it is the program, resolve on the destination with -SourceIsRunning / --source-is-running.");
                case TreeFate.HeldByCriu:
                    return Unresolved(tree.Words, "Wait for CRIU, or end it with SIGKILL: then the tree runs on, or is gone. Then resolve again.");
                case TreeFate.Gone when committed && killed != false:
                    return await CommitAsync(tree.Words, cancellationToken).ConfigureAwait(false);
                case TreeFate.Gone when killed == false:
                    return await RollBackAsync("CRIU had resumed the source tree, which has ended since", ProgramState.Gone, cancellationToken).ConfigureAwait(false);
                case TreeFate.Gone when _mayBeHeld:
                    return await AskAsync(tree.Words, cancellationToken).ConfigureAwait(false);
                case TreeFate.Gone when contents.Records.Any(record => record is EngineOfOwn):
                    return await RollBackAsync(
                        $"{tree.Words}, in the hands of an engine of the operator's own, which alone can say whether it was restored",
                        ProgramState.Unknown, cancellationToken).ConfigureAwait(false);
                default:
                    return await RollBackAsync($"{tree.Words}, and nothing had been handed over", ProgramState.Gone, cancellationToken).ConfigureAwait(false);
            }
        }

        /// <summary>The source tree is gone: the destination runs it.</summary>
        private async Task<MigrationResolution> CommitAsync(string found, CancellationToken cancellationToken)
        {
            var (answer, failure) = await TellAsync(Verdict.Committed, cancellationToken).ConfigureAwait(false);
            if (failure is PhaulException { ErrorId: PhaulErrorId.ProgramLost } lost)
            {
                await recorder.EnterAsync(MigrationState.Lost, lost.Message, durable: true).ConfigureAwait(false);
                await recorder.WriteIfPossibleAsync(new PeerTold()).ConfigureAwait(false);
                await FinishAsync(MigrationState.Lost, ProgramState.Gone, null, found, lost.Message).ConfigureAwait(false);
                return Settled(found, MigrationState.Lost, ProgramState.Gone, $"{lost.Message} ({Destination})");
            }

            if (answer?.Running is not { } running)
            {
                return Unresolved(found, $"The destination {Destination} has to run it, and could not: {failure?.Message} " +
                    (failure as PhaulException)?.RecommendedAction) with
                {
                    // What had not followed was lost with the process that this settles
                    ProgramState = contents.Records.Any(record => record is TreeGone { PagesStillServed: true })
                        ? ProgramState.Unknown
                        : ProgramState.HeldOnDestination,
                };
            }

            await CompleteAsync(found, running.RootPid).ConfigureAwait(false);
            return Settled(found, MigrationState.Completed, ProgramState.RunningOnDestination, $"the destination {Destination} runs it, pid {running.RootPid}");
        }

        /// <summary>The program is here, or has ended here: the destination discards.</summary>
        private async Task<MigrationResolution> RollBackAsync(string found, ProgramState program, CancellationToken cancellationToken)
        {
            Exception? failure = null;
            var told = !_mayBeHeld || _peer is null;
            if (!told)
            {
                (var answer, failure) = await TellAsync(Verdict.RolledBack, cancellationToken).ConfigureAwait(false);
                var standing = answer is null ? await StandingAsync(cancellationToken).ConfigureAwait(false) : null;
                if (standing is nameof(MigrationState.Running) or nameof(MigrationState.Committing) && program == ProgramState.RunningOnSource)
                    return RunsTwice(found);
                // A destination without any record of it holds nothing.
                told = answer is not null || standing == "";
            }

            if (recorder.States.Count == 0)
                await recorder.EnterAsync(MigrationState.Connecting).ConfigureAwait(false);
            if (recorder.State != MigrationState.RolledBack)
                await recorder.EnterAsync(MigrationState.RolledBack, found, durable: true).ConfigureAwait(false);
            await recorder.WriteAsync(told ? new PeerTold() : new PeerUntold()).ConfigureAwait(false);
            await FinishAsync(MigrationState.RolledBack, program, null, found, told ? "rolled back" : "rolled back; the destination is not told yet")
                .ConfigureAwait(false);
            if (told)
                return Settled(found, MigrationState.RolledBack, program, _mayBeHeld ? $"rolled back; {Destination} holds nothing any more" : "rolled back");
            return Unresolved(
                found,
                $"The destination {Destination} may hold a copy, which does not run, and could not be told to discard it: {failure?.Message} " +
                "Resolve it again when it can be reached, or there with -SourceIsRunning / --source-is-running.") with
            {
                State = MigrationState.RolledBack,
                ProgramState = program,
            };
        }

        /// <summary>The tree ended without a commit. What the destination has tells whether anything is left to decide.</summary>
        private async Task<MigrationResolution> AskAsync(string found, CancellationToken cancellationToken)
        {
            var standing = await StandingAsync(cancellationToken).ConfigureAwait(false);
            if (standing is nameof(MigrationState.Running) or nameof(MigrationState.Committing))
            {
                await CompleteAsync(found, null).ConfigureAwait(false);
                return Settled(found, MigrationState.Completed, ProgramState.RunningOnDestination, $"the destination {Destination} was told to run it already");
            }

            if (standing is nameof(MigrationState.Prepared) or nameof(MigrationState.InDoubt) or null)
            {
                return Unresolved(
                    $"{found}, before the commit was decided" + (standing is null ? $"; the destination {Destination} cannot be asked" : ""),
                    $"A copy as of the moment of the freeze {(standing is null ? "may be" : "is")} held on {Destination}. If the program did not run on after that (this host lost " +
                    "power while it was frozen): there, -SourceIsGone / --source-is-gone runs it. If it did, and has ended: there, -SourceIsRunning / " +
                    "--source-is-running discards it. Then resolve here again.");
            }

            return await RollBackAsync(found, ProgramState.Gone, cancellationToken).ConfigureAwait(false);
        }

        /// <summary>The destination's state; empty if it has no record of the migration, null if it cannot be asked.</summary>
        private async Task<string?> StandingAsync(CancellationToken cancellationToken) =>
            (await TellAsync(Verdict.Ask, cancellationToken).ConfigureAwait(false)).Answer?.Standing.State;

        private MigrationResolution RunsTwice(string found) => Unresolved(
            $"{found}, and the destination {Destination} was told to run its copy",
            "The program may run twice. Decide which of the two is to live, and end the other.");

        private string Destination => recovery._options.Destination?.ToString() ?? _peer?.Name ?? summary.DestinationHost ?? "";

        private Task<(DestinationMessage? Answer, Exception? Failure)> TellAsync(Verdict verdict, CancellationToken cancellationToken)
        {
            var options = recovery._options;
            var endpoint = options.Destination ?? new MigrationEndpoint
            {
                Host = _peer?.Endpoint?.Host,
                Port = _peer?.Endpoint?.Port ?? MigrationEndpoint.DefaultPort,
                UnixSocketPath = _peer?.Endpoint?.UnixSocketPath,
                InsecureLoopback = _peer?.Endpoint?.InsecureLoopback ?? false,
            };
            var trusted = options.TrustedFingerprints.Count > 0 ? options.TrustedFingerprints : _peer?.Fingerprint is { } met ? [met] : [];
            return new VerdictDelivery(
                endpoint with { Certificate = endpoint.InsecureLoopback ? null : options.Certificate, TrustedFingerprints = trusted },
                options.ConnectTimeout, options.PeerTimeout).SettleAsync(recorder.MigrationId, verdict, options.Limit, cancellationToken);
        }

        private async Task CompleteAsync(string found, int? rootPid)
        {
            // The table has no way from an earlier state: the death of the tree is what commits.
            if (recorder.State == MigrationState.Transferring)
                await recorder.EnterAsync(MigrationState.Committing, found).ConfigureAwait(false);
            await recorder.EnterAsync(MigrationState.Completed, found, durable: true).ConfigureAwait(false);
            await recorder.WriteIfPossibleAsync(new PeerTold()).ConfigureAwait(false);
            await FinishAsync(MigrationState.Completed, ProgramState.RunningOnDestination, rootPid, found, "completed").ConfigureAwait(false);
        }

        private async Task FinishAsync(MigrationState state, ProgramState program, int? rootPid, string found, string done)
        {
            var images = contents.Records.OfType<ImagesPlace>().LastOrDefault()?.Directory;
            var begun = contents.Records.OfType<Begun>().First();
            if (images is not null && state == MigrationState.Completed && !begun.KeepImages && WorkDirectory.TryRemove(images) is { } obstacle)
                await recorder.WarnAsync($"The images in {images} could not be removed: {obstacle}").ConfigureAwait(false);
            await recorder.WriteIfPossibleAsync(new Resolution($"{found}; {done}", recovery._options.By)).ConfigureAwait(false);
            var result = ResolvedResult.Of(begun, contents, recorder) with
            {
                State = state,
                ProgramState = program,
                DestinationPid = rootPid,
                ImagesDirectory = images is not null && Directory.Exists(images) ? images : null,
            };
            await recorder.WriteIfPossibleAsync(new Finished(result), durable: true).ConfigureAwait(false);
        }

        private MigrationResolution Settled(string found, MigrationState state, ProgramState program, string done) =>
            Resolutions.Of(summary, ResolutionOutcome.Settled, found) with { State = state, ProgramState = program, Done = done };

        private MigrationResolution Unresolved(string found, string remains) =>
            Resolutions.Of(summary, ResolutionOutcome.Unresolved, found) with { ProgramState = ProgramState.Unknown, Remains = remains.TrimEnd() };
    }
}
