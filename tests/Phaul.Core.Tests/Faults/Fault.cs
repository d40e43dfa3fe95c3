// What goes wrong, and when.

namespace Phaul.Tests.Faults;

/// <summary>Who or what fails.</summary>
public enum Actor
{
    SourcePhaul,
    SourceCriu,
    DestinationPhaul,

    /// <summary>Whichever CRIU the destination runs just then: the one that restores and holds, and the one that brings late memory.</summary>
    DestinationCriu,

    /// <summary>The time of day of the source's Phaul is another all at once.</summary>
    SourceClock,

    /// <summary>The time of day of the destination's Phaul.</summary>
    DestinationClock,

    /// <summary>The interfaces go down, which both hosts notice.</summary>
    LinkCut,

    /// <summary>Packets are lost without a word.</summary>
    LinkDrop,
    SourceDisk,
    DestinationDisk,
}

/// <summary>How it fails.</summary>
public enum Failing
{
    /// <summary>SIGKILL; disks: full; clocks: a day ahead.</summary>
    ForGood,

    /// <summary>SIGSTOP, or the link, for longer than the time-outs; clocks: a day back. Then it goes on as before.</summary>
    ForAWhile,
}

/// <summary>The record in a journal upon which it happens.</summary>
public enum Moment
{
    SourceChecking,
    SourceFreezing,
    SourceTransferring,
    SourceCommitting,
    SourceTreeGone,
    DestinationReceiving,
    DestinationRestoring,
    DestinationPrepared,
    DestinationCommitting,
    DestinationResuming,
    DestinationRunning,
}

/// <summary>One cell of the matrix.</summary>
/// <param name="Actor">Who.</param>
/// <param name="Failing">How.</param>
/// <param name="Moment">When.</param>
/// <param name="Delay">How much later.</param>
/// <param name="Mode">How the program moves.</param>
public sealed record Fault(Actor Actor, Failing Failing, Moment Moment, TimeSpan Delay = default, MigrationMode Mode = MigrationMode.StopAndCopy)
{
    /// <summary>What fails while memory stays behind: everything whose end could cost more, or less, than it should.</summary>
    public static IReadOnlyList<Fault> OfPostCopy { get; } =
    [
        .. new[]
        {
            At(Actor.SourcePhaul, Failing.ForGood,
                Moment.SourceTransferring, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.SourceCommitting,
                Moment.SourceTreeGone, Moment.DestinationRunning),
            At(Actor.SourcePhaul, Failing.ForAWhile, Moment.DestinationPrepared),
            At(Actor.SourceCriu, Failing.ForGood, Moment.SourceTransferring, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.DestinationRunning),
            At(Actor.DestinationPhaul, Failing.ForGood,
                Moment.DestinationReceiving, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.SourceTreeGone, Moment.DestinationResuming,
                Moment.DestinationRunning),
            At(Actor.DestinationPhaul, Failing.ForAWhile, Moment.DestinationRunning),
            At(Actor.DestinationCriu, Failing.ForGood, Moment.DestinationRestoring, Moment.DestinationPrepared),
            At(Actor.LinkCut, Failing.ForAWhile,
                Moment.SourceTransferring, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.DestinationRunning),
            At(Actor.LinkDrop, Failing.ForAWhile, Moment.DestinationRunning),
        }.SelectMany(faults => faults).Select(fault => fault with { Mode = MigrationMode.PostCopy }),
    ];

    /// <summary>What fails while memory is read and compared. From the freeze on it is the same hand-over; then a few moments are enough.</summary>
    public static IReadOnlyList<Fault> OfPrefetch { get; } =
    [
        .. new[]
        {
            At(Actor.SourcePhaul, Failing.ForGood, Moment.DestinationReceiving, Moment.SourceTreeGone),
            At(Actor.DestinationPhaul, Failing.ForGood, Moment.DestinationReceiving, Moment.DestinationRunning),
            At(Actor.LinkCut, Failing.ForAWhile, Moment.DestinationReceiving),
            At(Actor.DestinationDisk, Failing.ForGood, Moment.DestinationReceiving),
        }.SelectMany(faults => faults).Select(fault => fault with { Mode = MigrationMode.Prefetch }),
    ];

    /// <summary>Whether a fault of its kind may cost the program: only where the source's memory is lost after the commit.</summary>
    public bool MayLose => Mode == MigrationMode.PostCopy;

    /// <summary>Every cell that can be: an actor fails while it exists.</summary>
    public static IReadOnlyList<Fault> All { get; } =
    [
        .. At(Actor.SourcePhaul, Failing.ForGood, Enum.GetValues<Moment>()),
        .. At(Actor.SourcePhaul, Failing.ForAWhile, Moment.SourceFreezing, Moment.DestinationPrepared, Moment.SourceCommitting),
        .. At(Actor.SourceCriu, Failing.ForGood, Moment.SourceFreezing, Moment.SourceTransferring, Moment.DestinationPrepared, Moment.SourceCommitting),
        // CRIU is started after the record, and has ended soon after the next one
        new(Actor.SourceCriu, Failing.ForAWhile, Moment.SourceFreezing, TimeSpan.FromMilliseconds(60)),
        .. At(Actor.SourceCriu, Failing.ForAWhile, Moment.SourceTransferring),
        .. At(Actor.DestinationPhaul, Failing.ForGood,
            Moment.DestinationReceiving, Moment.SourceTransferring, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.SourceTreeGone,
            Moment.DestinationCommitting, Moment.DestinationResuming, Moment.DestinationRunning),
        .. At(Actor.DestinationPhaul, Failing.ForAWhile, Moment.DestinationReceiving, Moment.DestinationPrepared, Moment.DestinationCommitting),
        new(Actor.DestinationCriu, Failing.ForGood, Moment.DestinationReceiving, TimeSpan.FromMilliseconds(60)),
        .. At(Actor.DestinationCriu, Failing.ForGood,
            Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.SourceTreeGone, Moment.DestinationResuming),
        .. At(Actor.DestinationCriu, Failing.ForAWhile,
            Moment.DestinationReceiving, Moment.DestinationRestoring, Moment.DestinationPrepared, Moment.DestinationRunning),
        .. At(Actor.SourceClock, Failing.ForGood, Moment.SourceFreezing, Moment.SourceTreeGone),
        .. At(Actor.SourceClock, Failing.ForAWhile, Moment.DestinationPrepared),
        .. At(Actor.DestinationClock, Failing.ForGood, Moment.DestinationReceiving, Moment.DestinationPrepared),
        .. At(Actor.DestinationClock, Failing.ForAWhile, Moment.DestinationPrepared),
        .. At(Actor.LinkCut, Failing.ForAWhile,
            Moment.DestinationReceiving, Moment.SourceTransferring, Moment.DestinationPrepared, Moment.SourceTreeGone, Moment.DestinationRunning),
        .. At(Actor.LinkDrop, Failing.ForAWhile, Moment.DestinationReceiving, Moment.DestinationPrepared, Moment.SourceTreeGone, Moment.DestinationRunning),
        .. At(Actor.SourceDisk, Failing.ForGood, Moment.SourceFreezing, Moment.SourceTransferring),
        .. At(Actor.DestinationDisk, Failing.ForGood, Moment.DestinationReceiving, Moment.DestinationPrepared),
    ];

    /// <inheritdoc/>
    public override string ToString() => (Mode == MigrationMode.StopAndCopy ? "" : $"{Mode}: ") + $"{Actor} {(Failing == Failing.ForGood ? "for good" : "for a while")} at {Moment}" +
        (Delay == default ? "" : $" + {Delay.TotalMilliseconds:0} ms");

    private static IEnumerable<Fault> At(Actor actor, Failing failing, params Moment[] moments) => moments.Select(moment => new Fault(actor, failing, moment));
}
