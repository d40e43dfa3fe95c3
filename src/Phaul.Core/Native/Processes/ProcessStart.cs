// What to start as a child process.
using System.Runtime.InteropServices;

namespace Phaul.Native;

/// <summary>What to start, and what it may inherit.</summary>
internal sealed record ProcessStart
{
    /// <summary>The program: a path, or a name that is looked up in PATH.</summary>
    public required string File { get; init; }

    /// <summary>The arguments after the program's own name.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    /// <summary>The whole environment; null passes on this process's own.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; init; }

    /// <summary>The descriptors that the child gets, by the number under which it sees them (3 to 63). No others are inherited.</summary>
    public IReadOnlyDictionary<int, SafeHandle> Descriptors { get; init; } = new Dictionary<int, SafeHandle>();

    /// <summary>Where standard output goes; null puts its last part into <see cref="ChildProcess.OutputTail"/>.</summary>
    public SafeHandle? Output { get; init; }

    /// <summary>Whether what it started in its session is killed when it ends, however it ends.</summary>
    public bool GroupEndsWithIt { get; init; }

    /// <summary>Where standard error goes; null puts its last part into <see cref="ChildProcess.OutputTail"/>.</summary>
    public SafeHandle? Error { get; init; }
}
