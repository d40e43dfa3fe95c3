// What can happen next: every step of both sides, every loss, every crash, every recovery.

using static Phaul.MigrationState;

namespace Phaul.Tests.Model;

/// <summary>Mistakes that the model can be given, to see that it would find them.</summary>
public enum Mutation
{
    None,

    /// <summary>Commit is sent as soon as CRIU was told to kill the tree.</summary>
    CommitBeforeDeathIsVerified,

    /// <summary>The source's process dies, and its recovery believes the intent instead of looking at the tree.</summary>
    IntentIsBelieved,

    /// <summary>A restarted destination restores again whatever it finds.</summary>
    RestoreAgainAlways,

    /// <summary>A destination that loses its source discards what it has prepared.</summary>
    DiscardWhenSourceIsLost,

    /// <summary>A resume that was journalled counts as done, whatever CRIU's log says.</summary>
    LastWordIsIgnored,
}

/// <summary>
/// The successors of a state. Actions of the protocol are always possible; faults only while fewer than the bound have happened.
/// Time-outs are not modelled by time: a side may lose patience whenever the link is down, or whenever a message was lost.
/// </summary>
public sealed class HandOverModel(int maxFaults, Mutation mutation = Mutation.None)
{
    private const Messages OfTheLink = Messages.Prepared | Messages.Commit | Messages.Abort;

    public IEnumerable<(string Action, HandOverState Next)> Next(HandOverState s)
    {
        foreach (var step in Source(s).Concat(Dump(s)).Concat(Destination(s)).Concat(Restore(s)).Concat(Program(s)).Concat(Recovery(s)))
            yield return step;
        if (s.Faults < maxFaults)
        {
            foreach (var (action, next) in Faults(s))
                yield return (action, next with { Faults = s.Faults + 1 });
        }
    }

    private IEnumerable<(string, HandOverState)> Source(HandOverState s)
    {
        switch (s.Source)
        {
            case SourceStep.WaitsForPrepared:
                if (s.Messages.HasFlag(Messages.Prepared))
                {
                    yield return ("source journals its intent", s with
                    {
                        Messages = s.Messages & ~Messages.Prepared,
                        Source = SourceStep.Intended,
                        SourceJournal = Committing,
                        Intent = true,
                    });
                }

                // Cancelled, frozen for too long, link lost, CRIU failed: all before the gate closes
                yield return ("source calls off", CallOff(s));
                break;
            case SourceStep.Intended:
                yield return ("gate closes, CRIU is told", s with
                {
                    Source = SourceStep.GateClosed,
                    Dumper = s.Dumper == Dumper.Waiting ? Dumper.Told : s.Dumper,
                });
                yield return ("source calls off", CallOff(s));
                break;
            case SourceStep.GateClosed:
                if (mutation == Mutation.CommitBeforeDeathIsVerified)
                    yield return ("source sends Commit unverified", SendCommit(s with { TreeGone = true }));
                else if (s.Program == Model.Program.Dead)
                    yield return ("source sees the tree dead", s with { Source = SourceStep.SawDeath, TreeGone = true });
                else if (s.Dumper == Dumper.Told)
                    yield return ("source waits no longer for the death", s with { Source = SourceStep.Crashed, SourceJournal = InDoubt });
                else if (s.Dumper == Dumper.Gone)
                    yield return ("CRIU let go after the gate closed", CallOff(s));
                break;
            case SourceStep.SawDeath:
                yield return ("source sends Commit", SendCommit(s));
                break;
            case SourceStep.WaitsForRunning:
                if (s.Messages.HasFlag(Messages.Running))
                    yield return ("source completes", s with { Messages = s.Messages & ~Messages.Running, Source = SourceStep.Ended, SourceJournal = Completed });
                else
                    yield return ("source settles Committed again", s with { Messages = s.Messages | Messages.SettleCommitted });
                yield return ("source gives up", s with { Source = SourceStep.Crashed, SourceJournal = InDoubt });
                break;
            case SourceStep.Aborting:
                if (s.LinkIsUp)
                    yield return ("source sends Abort", s with { Messages = s.Messages | Messages.Abort });
                yield return ("source settles RolledBack", s with { Messages = s.Messages | Messages.SettleRolledBack });
                if (s.Messages.HasFlag(Messages.Discarded))
                    yield return ("source has rolled back", s with { Messages = s.Messages & ~Messages.Discarded, Source = SourceStep.Ended });
                yield return ("source gives up telling", s with { Source = SourceStep.Crashed });
                break;
        }
    }

    // The handler of post-dump refuses, or there is no CRIU any more: the tree runs on before anybody is told
    private static HandOverState CallOff(HandOverState s) => s with
    {
        Source = SourceStep.Aborting,
        SourceJournal = RolledBack,
        Dumper = Dumper.Gone,
        Program = s.Program == Model.Program.Frozen ? Model.Program.Running : s.Program,
        Freed = true,
    };

    private static HandOverState SendCommit(HandOverState s) => s with
    {
        Source = SourceStep.WaitsForRunning,
        Messages = s.Messages | (s.LinkIsUp ? Messages.Commit : Messages.SettleCommitted),
    };

    private static IEnumerable<(string, HandOverState)> Dump(HandOverState s)
    {
        if (s.Dumper == Dumper.Told && s.Program == Model.Program.Frozen)
            yield return ("CRIU kills the tree", s with { Program = Model.Program.Dead, Dumper = Dumper.Gone });
        // Nobody is left to tell it anything: it lets the tree go
        if (s.Dumper == Dumper.Waiting && s.Source is SourceStep.Crashed)
            yield return ("CRIU resumes the tree of a dead source", Free(s));
    }

    private static HandOverState Free(HandOverState s) => s with
    {
        Dumper = Dumper.Gone,
        Program = s.Program == Model.Program.Frozen ? Model.Program.Running : s.Program,
        Freed = s.Freed || s.Program == Model.Program.Frozen,
    };

    private IEnumerable<(string, HandOverState)> Destination(HandOverState s)
    {
        switch (s.Destination)
        {
            case DestinationStep.Restoring when s.Copy == Copy.Held:
                yield return ("destination is prepared", s with
                {
                    Destination = DestinationStep.Prepared,
                    DestinationJournal = Prepared,
                    Messages = s.LinkIsUp ? s.Messages | Messages.Prepared : s.Messages,
                });
                break;
            case DestinationStep.Restoring when s.Copy == Copy.None:
                yield return ("CRIU restores", s with { Copy = Copy.Held, LastWord = LastWord.Nothing });
                break;
            case DestinationStep.Committing:
                // What is lost is restored again; what is held is resumed
                yield return s.Copy == Copy.Held
                    ? ("destination journals the resume", s with { Destination = DestinationStep.Resuming, Resuming = true })
                    : ("destination restores again", s with { Copy = Copy.Held, LastWord = LastWord.Nothing, Resuming = false });
                break;
            case DestinationStep.Resuming when s.Copy == Copy.Held:
                yield return ("CRIU resumes the copy", s with { Copy = Copy.Running, LastWord = LastWord.Resumed });
                break;
            case DestinationStep.Resuming when s.Copy is Copy.Running or Copy.Ended:
                yield return ("destination runs it", s with
                {
                    Destination = DestinationStep.Ended,
                    DestinationJournal = Running,
                    Messages = s.Messages | Messages.Running,
                });
                break;
            case DestinationStep.Resuming:
                yield return ("the copy was lost before it ran", s with { Destination = DestinationStep.Committing, Resuming = false });
                break;
        }

        if (!s.LinkIsUp && s.Destination == DestinationStep.Restoring)
            yield return ("destination gives up", Discard(s));
        if (!s.LinkIsUp && s is { Destination: DestinationStep.Prepared, DestinationJournal: Prepared })
        {
            yield return mutation == Mutation.DiscardWhenSourceIsLost
                ? ("destination discards when its source is lost", Discard(s))
                : ("destination is in doubt", s with { DestinationJournal = InDoubt });
        }

        foreach (var step in Verdicts(s))
            yield return step;
    }

    private IEnumerable<(string, HandOverState)> Verdicts(HandOverState s)
    {
        foreach (var message in (Messages[])[Messages.Commit, Messages.Abort, Messages.SettleCommitted, Messages.SettleRolledBack])
        {
            if (!s.Messages.HasFlag(message) || s.Destination == DestinationStep.Crashed)
                continue;
            var taken = s with { Messages = s.Messages & ~message };
            var commits = message is Messages.Commit or Messages.SettleCommitted;
            switch (s.Destination)
            {
                case DestinationStep.Ended or DestinationStep.Idle when MigrationTransitions.IsFinal(MigrationSide.Destination, s.DestinationJournal):
                    var confirms = s.DestinationJournal == Running == commits;
                    yield return ($"destination answers {message} from its journal", confirms
                        ? taken with { Messages = taken.Messages | (commits ? Messages.Running : Messages.Discarded) }
                        : taken);
                    break;
                case DestinationStep.Restoring or DestinationStep.Prepared when !commits:
                    yield return ($"destination takes {message}", Discard(taken) with { Messages = taken.Messages | Messages.Discarded });
                    break;
                case DestinationStep.Prepared:
                    yield return ($"destination takes {message}", taken with { Destination = DestinationStep.Committing, DestinationJournal = Committing });
                    break;
                case DestinationStep.Idle when message is Messages.SettleCommitted or Messages.SettleRolledBack:
                    foreach (var step in FromJournal(taken, commits))
                        yield return step;
                    break;
            }
        }
    }

    // DestinationRecovery: nobody holds anything in memory
    private IEnumerable<(string, HandOverState)> FromJournal(HandOverState s, bool commits)
    {
        if (!commits)
        {
            if (s.DestinationJournal != Committing && s.Copy != Copy.Running)
                yield return ("destination discards by its journal", Discard(s) with { Messages = s.Messages | Messages.Discarded });
            yield break;
        }

        if (s.DestinationJournal is Restoring)
            yield break;
        var reached = s with { DestinationJournal = Committing };
        var hasRun = s.Resuming && (mutation == Mutation.LastWordIsIgnored || s.LastWord == LastWord.Resumed) && mutation != Mutation.RestoreAgainAlways;
        var isUnknown = s.Resuming && s.LastWord == LastWord.Nothing && mutation == Mutation.None;
        if (s.Copy == Copy.Running)
            yield return ("destination finds it running", reached with { DestinationJournal = Running, Destination = DestinationStep.Ended, Messages = s.Messages | Messages.Running });
        else if (s.Copy is Copy.None or Copy.Ended && isUnknown)
            yield return ("destination cannot know whether it ran", s with { DestinationJournal = InDoubt });
        else if (s.Copy is Copy.None or Copy.Ended && hasRun)
            yield return ("destination finds that it has ended", reached with { DestinationJournal = Running, Destination = DestinationStep.Ended, Messages = s.Messages | Messages.Running });
        else
            yield return ("destination restores again", reached with { Copy = Copy.Held, LastWord = LastWord.Nothing, Resuming = false, Destination = DestinationStep.Committing });
    }

    private static HandOverState Discard(HandOverState s) => s with
    {
        Destination = DestinationStep.Ended,
        DestinationJournal = Discarded,
        Copy = s.Copy is Copy.Held or Copy.Asleep ? Copy.None : s.Copy,
    };

    private static IEnumerable<(string, HandOverState)> Restore(HandOverState s)
    {
        // CRIU kills what it holds when it loses its server
        if (s.Destination == DestinationStep.Crashed && s.Copy == Copy.Held)
            yield return ("CRIU kills the copy of a dead server", s with { Copy = Copy.None, LastWord = LastWord.GaveUp });
    }

    private static IEnumerable<(string, HandOverState)> Program(HandOverState s)
    {
        if (s.Copy == Copy.Running)
            yield return ("the copy ends by itself", s with { Copy = Copy.Ended, HasEnded = true });
    }

    // `phaul serve` is started again, `phaul resolve` is called: as often as anybody likes
    private IEnumerable<(string, HandOverState)> Recovery(HandOverState s)
    {
        if (s.Destination == DestinationStep.Crashed && s.Copy is not Copy.Held)
        {
            yield return ("destination is started again", s with { Destination = DestinationStep.Idle });
        }

        // Without a person: what was never prepared is discarded, what was being committed is finished
        if (s is { Destination: DestinationStep.Idle, DestinationJournal: Restoring })
            yield return ("destination resolves", Discard(s));
        if (s is { Destination: DestinationStep.Idle, DestinationJournal: Committing })
        {
            foreach (var step in FromJournal(s, commits: true))
                yield return step;
        }

        // A person decides what no record can tell, and knows whether the program had begun to run there
        if (s is { Destination: DestinationStep.Idle, DestinationJournal: InDoubt, Resuming: true, LastWord: LastWord.Nothing, Copy: Copy.None or Copy.Ended })
        {
            yield return s.HasEnded
                ? ("operator: it ran, and ended with its host", s with { DestinationJournal = Committing, LastWord = LastWord.Resumed })
                : ("operator: it has not run", s with { DestinationJournal = Committing, Copy = Copy.Held, Resuming = false, Destination = DestinationStep.Committing });
        }

        // CRIU has to be done with the tree before the look counts
        if (s.Source == SourceStep.Crashed && !(s.SourceJournal == Completed) && s.Dumper == Dumper.Gone)
        {
            var believed = mutation == Mutation.IntentIsBelieved && s.Intent;
            if (s.TreeGone || s.Program == Model.Program.Dead || believed)
                yield return ("source resolves: the tree is gone", s with { Source = SourceStep.ResolvingGone });
            else
                yield return ("source resolves: the tree is alive", s with { Source = SourceStep.Resolving, SourceJournal = RolledBack });
        }

        if (s.Source == SourceStep.ResolvingGone)
        {
            yield return ("source settles Committed", s with { Messages = s.Messages | Messages.SettleCommitted });
            if (s.Messages.HasFlag(Messages.Running))
                yield return ("source completes", s with { Messages = s.Messages & ~Messages.Running, Source = SourceStep.Ended, SourceJournal = Completed });
        }

        if (s.Source == SourceStep.Resolving)
        {
            yield return ("source settles RolledBack", s with { Messages = s.Messages | Messages.SettleRolledBack });
            if (s.Messages.HasFlag(Messages.Discarded))
                yield return ("source has rolled back", s with { Messages = s.Messages & ~Messages.Discarded, Source = SourceStep.Ended });
        }
    }

    private static IEnumerable<(string, HandOverState)> Faults(HandOverState s)
    {
        if (s.Source is not (SourceStep.Ended or SourceStep.Crashed))
            yield return ("FAULT source phaul killed", s with { Source = SourceStep.Crashed, LinkIsUp = false, Messages = s.Messages & ~Messages.Prepared });
        if (s.Dumper != Dumper.Gone)
            yield return ("FAULT source criu killed", Free(s));
        if (s.Destination is not (DestinationStep.Ended or DestinationStep.Crashed or DestinationStep.Idle))
            yield return ("FAULT destination phaul killed", s with { Destination = DestinationStep.Crashed, LinkIsUp = false, Messages = s.Messages & ~(Messages.Commit | Messages.Abort) });
        if (s.Copy == Copy.Held)
            yield return ("FAULT destination criu killed", s with { Copy = Copy.Asleep });
        if (s.Copy is Copy.Held or Copy.Asleep or Copy.Running && s.Destination != DestinationStep.Ended)
        {
            var ended = s.Copy == Copy.Running;
            yield return ("FAULT destination host lost", s with { Copy = ended ? Copy.Ended : Copy.None, HasEnded = s.HasEnded || ended, Destination = DestinationStep.Crashed, LinkIsUp = false, Messages = s.Messages & ~(Messages.Commit | Messages.Abort), LastWord = LastWord.Nothing });
        }

        if (s.LinkIsUp)
            yield return ("FAULT link lost", s with { LinkIsUp = false, Messages = s.Messages & ~OfTheLink });
        foreach (var message in Enum.GetValues<Messages>())
        {
            if (message != Messages.None && s.Messages.HasFlag(message))
                yield return ($"FAULT {message} lost", s with { Messages = s.Messages & ~message, LinkIsUp = s.LinkIsUp && (message & OfTheLink) == 0 });
        }
    }
}
