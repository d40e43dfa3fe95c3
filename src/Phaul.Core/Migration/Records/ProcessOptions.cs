// What CRIU is told about the process tree: the options that such processes need.

namespace Phaul;

/// <summary>How CRIU treats cgroups (criu(8), <c>--manage-cgroups</c>).</summary>
public enum CgroupMode
{
    /// <summary>Leave cgroups alone; restored tasks are in the cgroup of the restorer.</summary>
    Ignore,

    /// <summary>Put tasks into existing cgroups without creating any.</summary>
    None,

    /// <summary>As None, and restore properties.</summary>
    Props,

    /// <summary>Create cgroups that are missing; do not touch existing ones.</summary>
    Soft,

    /// <summary>Restore properties of all cgroups, existing ones too.</summary>
    Full,

    /// <summary>Fail if a cgroup exists already.</summary>
    Strict,
}

/// <summary>How CRIU blocks packets of established connections while their owner is frozen.</summary>
public enum NetworkLock
{
    /// <summary>nftables, a table of CRIU's own.</summary>
    Nftables,

    /// <summary>iptables rules.</summary>
    Iptables,

    /// <summary>Not at all: whoever calls takes care of it.</summary>
    Skip,
}

/// <summary>Options of dump and restore. Each says which option of criu(8) it is; the defaults fit a daemon without connections.</summary>
public sealed record ProcessOptions
{
    /// <summary>File locks held by the tree are moved (<c>--file-locks</c>).</summary>
    public bool FileLocks { get; init; }

    /// <summary>Established TCP connections are moved (<c>--tcp-established</c>). The destination must own the address.</summary>
    public bool TcpEstablished { get; init; }

    /// <summary>Established TCP connections are closed on restore (<c>--tcp-close</c>).</summary>
    public bool TcpClose { get; init; }

    /// <summary>Connections that are not accepted yet are left out of the dump (<c>--skip-in-flight</c>).</summary>
    public bool TcpSkipInFlight { get; init; }

    /// <summary>UNIX sockets may be connected to processes outside the tree (<c>--ext-unix-sk</c>).</summary>
    public bool ExternalUnixSockets { get; init; }

    /// <summary>The tree has a controlling terminal, or belongs to a session outside it (<c>--shell-job</c>).</summary>
    public bool ShellJob { get; init; }

    /// <summary>Unlinked files that still have another name may be linked back temporarily (<c>--link-remap</c>).</summary>
    public bool LinkRemap { get; init; }

    /// <summary>The largest unlinked open file that is carried in the images, in bytes (<c>--ghost-limit</c>). Default 1 MiB, as in CRIU.</summary>
    public uint GhostLimit { get; init; } = 1 << 20;

    /// <summary>Treatment of cgroups (<c>--manage-cgroups</c>).</summary>
    public CgroupMode ManageCgroups { get; init; } = CgroupMode.Ignore;

    /// <summary>The path of the root file system in which the tree is restored (<c>--root</c>); null for the host's own.</summary>
    public string? Root { get; init; }

    /// <summary>External resources (<c>--external</c>), as CRIU spells them: <c>mnt[path]:name</c>, <c>net[inode]:name</c> …</summary>
    public IReadOnlyList<string> External { get; init; } = [];

    /// <summary>How packets are blocked while established connections are moved (<c>--network-lock</c>).</summary>
    public NetworkLock NetworkLock { get; init; } = NetworkLock.Nftables;

    /// <summary>Do not check that the permissions of open files are unchanged on restore (<c>--skip-file-rwx-check</c>).</summary>
    public bool SkipFileRwxCheck { get; init; }

    /// <summary>Do not fail when sysctls differ (<c>--weak-sysctls</c>).</summary>
    public bool WeakSysctls { get; init; }

    /// <summary>Verbosity of CRIU's logs, 0 to 4 (<c>-v</c>). Default 3: what went wrong can be read off them;
    /// 4 adds what CRIU does page by page, and a hundredth of a second to the downtime.</summary>
    public int LogLevel { get; init; } = 3;

    /// <summary>CRIU's own time limit for collecting and freezing the tree, in seconds (<c>--timeout</c>). Default 10.</summary>
    public int CriuTimeoutSeconds { get; init; } = 10;
}
