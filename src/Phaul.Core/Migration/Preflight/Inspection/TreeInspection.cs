// What was seen of a tree from outside, while it ran: the ground of the source's checks and of the survey for the destination.

using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>One look at a tree.</summary>
internal sealed record TreeInspection
{
    /// <summary>The tree.</summary>
    public required ProcessTree Tree { get; init; }

    /// <summary>Its processes; those that ended meanwhile, zombies and those that may not be looked at are left out.</summary>
    public required IReadOnlyList<ProcessInspection> Processes { get; init; }

    /// <summary>The kinds of namespaces (<c>mnt</c>, <c>pid</c> …) that the root has other than Phaul has.</summary>
    public required IReadOnlySet<string> OwnNamespaces { get; init; }

    /// <summary>Pid and kind of namespaces that are neither the root's nor may be nested for CRIU.</summary>
    public required IReadOnlyList<(int Pid, string Kind)> NestedNamespaces { get; init; }

    /// <summary>The internet sockets of the tree itself, by number.</summary>
    public required IReadOnlyDictionary<ulong, ProcInetSocket> InetSockets { get; init; }

    /// <summary>All UNIX sockets of the root's network namespace, by number; null if they could not be had.</summary>
    public required IReadOnlyDictionary<uint, UnixSocketEntry>? UnixSockets { get; init; }

    /// <summary>What could not be looked at, in words.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>All open descriptors.</summary>
    public IEnumerable<OpenDescriptor> Descriptors => Processes.SelectMany(process => process.Descriptors);
}

/// <summary>One process.</summary>
internal sealed record ProcessInspection
{
    /// <summary>Who it is.</summary>
    public required TreeMember Member { get; init; }

    /// <summary>Ids, tracer.</summary>
    public required ProcStatus Status { get; init; }

    /// <summary>The device number of the controlling terminal; 0: none.</summary>
    public required int TerminalDevice { get; init; }

    /// <summary>What it has open.</summary>
    public required IReadOnlyList<OpenDescriptor> Descriptors { get; init; }

    /// <summary>What it has mapped.</summary>
    public required IReadOnlyList<ProcMapping> Mappings { get; init; }

    /// <summary>Its program, working directory and root, as paths.</summary>
    public required IReadOnlyList<string> Places { get; init; }

    /// <summary>Bytes of anonymous memory, in RAM or swapped out.</summary>
    public required ulong AnonymousBytes { get; init; }

    /// <summary>The mounts it sees, by number.</summary>
    public required IReadOnlyDictionary<int, ProcMount> Mounts { get; init; }

    /// <summary>How messages name it.</summary>
    public string Name => $"process {Member.Pid} ({Member.Command})";
}

/// <summary>An open descriptor.</summary>
/// <param name="Process">Whose.</param>
/// <param name="Number">Which.</param>
/// <param name="Link">What its link in /proc says, without the mark of a deleted file.</param>
/// <param name="IsMarkedDeleted">Whether the link was marked so.</param>
/// <param name="Status">What is open; null if that cannot be told.</param>
/// <param name="Info">How it is open.</param>
/// <param name="Mount">The mount it was opened on; null if that is not one that the process sees.</param>
/// <param name="SocketProtocol">The protocol, of sockets.</param>
internal sealed record OpenDescriptor(
    TreeMember Process, int Number, string Link, bool IsMarkedDeleted, FileStatus? Status, ProcDescriptorInfo Info, ProcMount? Mount,
    string? SocketProtocol)
{
    /// <summary>The number of the socket; null: it is none.</summary>
    public ulong? SocketInode => Link.StartsWith("socket:[", StringComparison.Ordinal) ? Status?.Inode : null;

    /// <summary>Something that has, or had, a path.</summary>
    public bool HasPath => Link.StartsWith('/') && !IsMemoryFile;

    /// <summary>A memfd.</summary>
    public bool IsMemoryFile => Link.StartsWith("/memfd:", StringComparison.Ordinal);

    /// <summary>A terminal.</summary>
    public bool IsTerminal => Status is { IsCharacterDevice: true, RealDevice.Major: 4 or 5 or (>= 136 and <= 143) };

    /// <summary>How messages name it.</summary>
    public string Name => $"process {Process.Pid} ({Process.Command}), descriptor {Number}";
}
