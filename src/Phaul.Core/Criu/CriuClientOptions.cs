// Which CRIU a client drives, what it inherits, and how long it may take.
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace Phaul.Criu;

/// <summary>Which CRIU a <see cref="CriuClient"/> drives, and how long it may take.</summary>
public sealed record CriuClientOptions
{
    /// <summary>The program: a path, or a name that is looked up in PATH. A wrapper script must end by exec.</summary>
    public string CriuPath { get; init; } = "criu";

    /// <summary>The socket of a running <c>criu service</c>, which is then used in place of <see cref="CriuPath"/>.</summary>
    public string? ServiceSocketPath { get; init; }

    /// <summary>
    /// The socket that memory pages go through, inherited by CRIU as <see cref="CriuClient.MemoryDescriptor"/>. It stays the
    /// caller's, and must stay open for as long as requests are made. Not possible with a service.
    /// </summary>
    public Socket? MemorySocket { get; init; }

    /// <summary>
    /// Further descriptors for CRIU to inherit, for <c>inherit_fd</c>, by the number (5 to 63) under which CRIU sees them. They
    /// stay the caller's. Not possible with a service.
    /// </summary>
    public IReadOnlyDictionary<int, SafeHandle> InheritedDescriptors { get; init; } = new Dictionary<int, SafeHandle>();

    /// <summary>
    /// How long one request may take before CRIU counts as hung. Time during which a handler holds a notification does not
    /// count. Waiting for a process (<see cref="CriuClient.WaitPidAsync"/>) has no limit but its token.
    /// </summary>
    public TimeSpan RequestTimeout { get; init; } = TimeSpan.FromMinutes(10);

    /// <summary>
    /// How long CRIU may take to let a restored tree run, once PostRestore was acknowledged, before it counts as hung. It depends
    /// on the number of tasks, not on their memory.
    /// </summary>
    public TimeSpan ResumeTimeout { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>
    /// How long CRIU may take to undo what it did and end, once a request was cancelled, refused or timed out, before it is
    /// killed. Killing it while it works inside a frozen tree can harm the tree: leave this long.
    /// </summary>
    public TimeSpan EndTimeout { get; init; } = TimeSpan.FromMinutes(1);
}
