// The last step of a migration on the source, as the migration around it sees it.

namespace Phaul;

/// <summary>Phaul's own <see cref="Handover"/>, or an engine of the operator's own.</summary>
internal interface ILastStep : IPhaulLocal
{
    /// <summary>How long the program was frozen, or longer; null as long as that cannot be said.</summary>
    TimeSpan? Downtime { get; }

    /// <summary>How long after that the program had all its memory; null where that is not followed from here.</summary>
    TimeSpan? MemoryCompleteAfter => null;

    /// <summary>The root pid on the destination; null if it does not run there, or that is not known.</summary>
    int? DestinationPid { get; }

    /// <summary>
    /// Whether the source tree was let go of, and was not seen to run on: then whatever fails, the destination must not be told to
    /// discard its copy, which may be the only one.
    /// </summary>
    bool IsCommitted { get; }

    /// <summary>Whether the source tree was seen to be gone.</summary>
    bool TreeIsGone { get; }

    /// <summary>Whether the destination may hold a restored tree: it was asked to restore.</summary>
    bool RestoreWasRequested { get; }

    /// <summary>Bytes of images sent by Phaul.</summary>
    long ImageBytes { get; }
}
