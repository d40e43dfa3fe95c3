// What a library user tells both ends of a migration: which tree, through which socket its memory flows, where images go.

using System.Net.Sockets;
using Phaul.Images;

namespace Phaul;

/// <summary>The configuration shared by <see cref="PhaulClient"/> and <see cref="PhaulServer"/>.</summary>
public sealed record PhaulConfig
{
    /// <summary>The pid of the root of the process tree to migrate, as the source host sees it. Not used on the destination.</summary>
    public int Pid { get; init; }

    /// <summary>
    /// The connected stream socket through which CRIU sends memory pages (source) or receives them (destination).
    /// It must be a UNIX stream socket: over TCP, CRIU's corking adds about 200 ms to the frozen time.
    /// The caller keeps ownership and closes it after the migration. Null only where pages come another way, as in Phaul's own server.
    /// </summary>
    public required Socket? MemorySocket { get; init; }

    /// <summary>An existing directory in which image directories and logs may be created. They are left to the caller.</summary>
    public required string WorkDirectory { get; init; }

    /// <summary>The criu binary: a path, or a name looked up in <c>PATH</c>.</summary>
    public string CriuPath { get; init; } = "criu";

    /// <summary>What CRIU is told about the tree, the same on both sides.</summary>
    public ProcessOptions Options { get; init; } = new();

    /// <summary>When to stop iterating and hand over.</summary>
    public ConvergenceOptions Convergence { get; init; } = new();

    /// <summary>
    /// What a hand-over to this destination costs beyond moving pages, as far as that is known from earlier ones; null: the policy
    /// assumes <see cref="ConvergencePolicy.DefaultFixedCost"/>. Only a prediction depends on it.
    /// </summary>
    public TimeSpan? HandOverCost { get; init; }

    /// <summary>
    /// Whether to iterate while the program runs: true (an error where dirty memory is not tracked), false, or null to ask CRIU.
    /// </summary>
    public bool? TrackMemory { get; init; }

    /// <summary>Let page servers punch holes into earlier images where later ones have the page, so that memory is not held twice.</summary>
    public bool AutoDedup { get; init; }

    /// <summary>
    /// The directory on the destination that holds what has arrived there, numbered as here; null where that is not known. Set for
    /// a <see cref="MigrationRequest.Local"/>.
    /// </summary>
    public string? RemoteWorkDirectory { get; init; }

    /// <summary>What <see cref="LateSocket"/> is for CRIU.</summary>
    internal const int LateDescriptor = 5;

    /// <summary>The connected stream socket through which CRIU on the source gives pages that are asked for after the dump; null: none are.</summary>
    internal Socket? LateSocket { get; init; }

    /// <summary>What a final dump measured whose memory follows: CRIU forgets its figures when it begins to serve. Null where CRIU's own count.</summary>
    internal Func<DumpStatistics>? LateStatistics { get; init; }

    /// <summary>
    /// Copies memory while the program runs, in CRIU's place; null: CRIU does that itself. CRIU then has no images of an iteration, and
    /// <see cref="IPhaulLocal"/> is told of none.
    /// </summary>
    internal MemoryPrefetch? Prefetch { get; init; }

    /// <summary>Called between the last iteration and the final dump.</summary>
    internal Func<Task>? IterationsEnded { get; init; }

    /// <summary>The migration's id, where there is one.</summary>
    internal string? MigrationId { get; init; }

    /// <summary>Counts the bytes that went through <see cref="MemorySocket"/>, where somebody does.</summary>
    internal Func<long>? PageByteCounter { get; init; }
}
