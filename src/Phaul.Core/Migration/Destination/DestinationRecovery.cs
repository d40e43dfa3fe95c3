// Settling a migration that an earlier server left: from its journal, its images and the source's verdict.

using System.Text.Json;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Journal;
using Phaul.Native;
using Phaul.Wire;

namespace Phaul;

/// <summary>
/// What a server does with a verdict on a migration that it does not hold in memory. The journal says how far it had come;
/// a verdict that was carried out already is confirmed, so that a source may ask as often as it likes.
/// </summary>
internal static class DestinationRecovery
{
    /// <exception cref="PhaulException">There is no such migration, the verdict contradicts it, or CRIU could not restore.</exception>
    public static async Task<DestinationMessage> SettleAsync(
        StateDirectory stateDirectory, DestinationServerOptions options, string migrationId, Settle.Types.Verdict verdict,
        IProgress<MigrationEvent>? observer, CancellationToken cancellationToken)
    {
        var path = stateDirectory.JournalPath(migrationId, MigrationSide.Destination);
        if (!File.Exists(path))
        {
            throw new PhaulException(PhaulErrorId.InDoubt, $"This host has no record of migration {migrationId}")
            {
                RecommendedAction = $"Is this the right host, and its state directory the right one ({stateDirectory.Path})?",
            };
        }

        var contents = await JournalReader.ReadAsync(path, cancellationToken).ConfigureAwait(false);
        var states = contents.Records.OfType<StateEntered>().Select(record => record.Change).ToArray();
        var state = states.Length > 0 ? states[^1].State : MigrationState.Accepted;
        var prepared = contents.Records.OfType<Journal.Prepared>().LastOrDefault();
        switch (state, verdict)
        {
            case (MigrationState.Running, Settle.Types.Verdict.Committed):
                return new DestinationMessage { Running = new Running { RootPid = prepared?.RootPid ?? 0 } };
            case (MigrationState.Discarded, Settle.Types.Verdict.RolledBack):
                return new DestinationMessage { Discarded = new Discarded() };
            case (MigrationState.Running, _) or (MigrationState.Discarded, _):
                throw new PhaulException(PhaulErrorId.InDoubt, $"Here the migration has ended as {state}, which contradicts the source");
            // It may run: killing it on a word that cannot be true could kill the only copy.
            case (MigrationState.Committing, Settle.Types.Verdict.RolledBack):
                throw new PhaulException(PhaulErrorId.InDoubt, "Here the commit has begun, which a source that rolled back cannot have asked for");
        }

        await using var journal = await MigrationJournal.OpenForRecoveryAsync(stateDirectory, migrationId, MigrationSide.Destination, cancellationToken)
            .ConfigureAwait(false);
        await using var recorder = new MigrationRecorder(MigrationSide.Destination, migrationId, journal, observer);
        recorder.Continue(states, contents.Records.OfType<IterationFinished>().Select(record => record.Iteration).ToArray());
        var alive = Alive(prepared);
        if (verdict == Settle.Types.Verdict.Committed && alive.Count > 0 && !HeldTasks.AnyIn(alive.Select(process => process.Pid)))
        {
            // The earlier server had it resumed, and ended before it could say so.
            await ReachCommittingAsync(recorder).ConfigureAwait(false);
            await recorder.EnterAsync(MigrationState.Running, "found running").ConfigureAwait(false);
            return new DestinationMessage { Running = new Running { RootPid = prepared!.RootPid } };
        }

        await KillAsync(alive, recorder).ConfigureAwait(false);
        if (verdict == Settle.Types.Verdict.RolledBack)
        {
            await recorder.EnterAsync(MigrationState.Discarded, "the source rolled back").ConfigureAwait(false);
            await recorder.WriteIfPossibleAsync(new Resolution("discarded: the source tree runs", "the source")).ConfigureAwait(false);
            return new DestinationMessage { Discarded = new Discarded { ImagesDirectory = prepared?.ImagesDirectory ?? "" } };
        }

        if (prepared is null)
            throw new PhaulException(PhaulErrorId.InDoubt, $"The migration was never prepared here; it had come to {state}");
        var pid = await RestoreAgainAsync(prepared, options, recorder, cancellationToken).ConfigureAwait(false);
        return new DestinationMessage { Running = new Running { RootPid = pid } };
    }

    private static IReadOnlyList<JournaledProcess> Alive(Journal.Prepared? prepared) =>
        prepared is null || prepared.BootId != ProcessIdentity.BootId().ToString()
            ? []
            : [.. prepared.Processes.Where(IsAlive)];

    private static bool IsAlive(JournaledProcess process)
    {
        using var descriptor = OpenIfThere(process.Pid);
        return descriptor is { HasExited: false } && ProcessIdentity.StartTime(process.Pid) == (ulong)process.StartTimeTicks;
    }

    /// <summary>A CRIU that was killed while it held a tree leaves it asleep; it has not run, and its pids are needed.</summary>
    private static async Task KillAsync(IReadOnlyList<JournaledProcess> processes, MigrationRecorder recorder)
    {
        foreach (var process in processes)
        {
            using var descriptor = OpenIfThere(process.Pid);
            // Looked at again with the pidfd in hand: the pid may have become another's in between.
            if (descriptor is null || ProcessIdentity.StartTime(process.Pid) != (ulong)process.StartTimeTicks)
                continue;
            await recorder.WarnAsync($"{process.Command} ({process.Pid}), restored earlier and never run, was killed.").ConfigureAwait(false);
            descriptor.SendSignal(Libc.SignalKill);
            await descriptor.WaitForExitAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(30)).ConfigureAwait(false);
        }
    }

    private static ProcessDescriptor? OpenIfThere(int pid)
    {
        try
        {
            return ProcessDescriptor.Open(pid);
        }
        catch (NativeException)
        {
            return null;
        }
    }

    private static async Task ReachCommittingAsync(MigrationRecorder recorder)
    {
        if (recorder.State == MigrationState.Prepared)
            await recorder.EnterAsync(MigrationState.InDoubt, "an earlier server ended").ConfigureAwait(false);
        if (recorder.State != MigrationState.Committing)
            await recorder.EnterAsync(MigrationState.Committing, "the source tree is gone", durable: true).ConfigureAwait(false);
    }

    private static async Task<int> RestoreAgainAsync(
        Journal.Prepared prepared, DestinationServerOptions options, MigrationRecorder recorder, CancellationToken cancellationToken)
    {
        await ReachCommittingAsync(recorder).ConfigureAwait(false);
        var restore = prepared.RestoreOptions is { ValueKind: JsonValueKind.String } json
            ? ProcessOptionsOnWire.FromMessage(RestoreOptions.Parser.ParseJson(json.GetString()!))
            : new ProcessOptions();
        await using var criuLog = CriuLogFollower.For(recorder, Path.GetDirectoryName(prepared.ImagesDirectory)!, options.FollowCriuLog);
        await using var criu = new CriuClient(new CriuClientOptions { CriuPath = options.CriuPath });
        await using var held = await HeldTree.RestoreAsync(criu, prepared.ImagesDirectory, restore, cancellationToken).ConfigureAwait(false);
        await recorder.WriteAsync(
            prepared with
            {
                RootPid = held.Tree.RootPid,
                BootId = held.Tree.BootId,
                Processes = held.Tree.Members
                    .Select(member => new JournaledProcess(member.Pid, (long)member.StartTime, member.Command)).ToArray(),
            },
            durable: true).ConfigureAwait(false);
        await held.ResumeAsync().ConfigureAwait(false);
        await recorder.EnterIfPossibleAsync(MigrationState.Running).ConfigureAwait(false);
        await recorder.WriteIfPossibleAsync(
            new Resolution("restored again from the images and run: the source tree is gone", "the source")).ConfigureAwait(false);
        return held.Tree.RootPid;
    }
}
