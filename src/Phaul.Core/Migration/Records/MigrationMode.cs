// How memory moves.

namespace Phaul;

/// <summary>How the memory of the program travels.</summary>
public enum MigrationMode
{
    /// <summary>PreCopy where the source's kernel and CRIU track dirty memory, otherwise StopAndCopy with a warning that says why.</summary>
    Auto,

    /// <summary>All memory while frozen. Downtime grows with memory; works on every kernel.</summary>
    StopAndCopy,

    /// <summary>Memory in iterations while the program runs, and what changed last while frozen. Needs soft-dirty tracking on the source.</summary>
    PreCopy,

    /// <summary>Memory after the program runs on the destination. A link lost after the commit loses the program. Never chosen by Auto.</summary>
    PostCopy,

    /// <summary>PreCopy iterations, then PostCopy for what is left. The same danger as PostCopy. Never chosen by Auto.</summary>
    Hybrid,

    /// <summary>
    /// As PreCopy, on every kernel: the memory of the running program is read and compared instead of tracked. While it is frozen, all of
    /// it is compared once more, and what differs is sent.
    /// </summary>
    Prefetch,
}
