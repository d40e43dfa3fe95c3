// What CRIU refuses whatever it is told: found here while the program runs undisturbed.

using Phaul.Criu;
using Phaul.Procfs;

namespace Phaul.Preflight;

internal static class RefusalChecks
{
    private static readonly HashSet<string> KnownAnonymous =
        ["[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]", "bpf-map"];

    private static readonly string[] KnownProtocols = ["TCP", "UDP", "UNIX", "NETLINK", "PACKET", "RAW", "PING"];
    private static readonly string[] PasscredProtocols = ["TCP", "UDP", "RAW", "PING", "PACKET", "MPTCP"];

    /// <summary>io_uring.</summary>
    public static IEnumerable<Finding> IoUring(TreeInspection tree) =>
        from open in tree.Descriptors
        where open.Link == "anon_inode:[io_uring]"
        select new Finding(
            CheckVerdict.Failed, $"{Capital(open.Name)} is an io_uring, which CRIU cannot dump.",
            "Run the program without io_uring (UV_USE_IO_URING=0 for node, for one).");

    /// <summary>Descriptors of kinds that CRIU does not know.</summary>
    public static IEnumerable<Finding> Descriptors(TreeInspection tree, ProcessOptions options)
    {
        var threads = tree.Tree.Members.SelectMany(member => member.ThreadIds).ToHashSet();
        foreach (var open in tree.Descriptors)
        {
            const string prefix = "anon_inode:";
            if (open.Link.StartsWith(prefix, StringComparison.Ordinal) && !KnownAnonymous.Contains(open.Link[prefix.Length..])
                && open.Link != "anon_inode:[io_uring]")
            {
                yield return new Finding(
                    CheckVerdict.Failed, $"{Capital(open.Name)} is an {open.Link}, which CRIU cannot dump.", "Let the program close it.");
            }
            else if (open.Info.ProcessId is > 0 and var other && !threads.Contains(other))
            {
                yield return new Finding(
                    CheckVerdict.Failed, $"{Capital(open.Name)} is a pidfd of process {other}, which is not in the tree.",
                    "Migrate a tree that has both processes, or let the program close it.");
            }
            else if (open.SocketProtocol is { } protocol
                && !KnownProtocols.Any(known => protocol.StartsWith(known, StringComparison.Ordinal)))
            {
                yield return new Finding(
                    CheckVerdict.Failed, $"{Capital(open.Name)} is a socket of the protocol {protocol}, which CRIU cannot dump.",
                    "Let the program close it.");
            }
            else if (open.Status is { IsCharacterDevice: true, RealDevice: var device } && !open.IsTerminal && open.HasPath
                && device is not ((1, _) or (10, 200)) && options.External.Count == 0)
            {
                // CRIU has plugins for some devices (GPUs): only a warning.
                yield return new Finding(
                    CheckVerdict.Warning, $"{Capital(open.Name)} is the device {open.Link}, which CRIU cannot dump without a plugin.");
            }
        }
    }

    /// <summary>inotify on file systems whose files have no handles.</summary>
    public static IEnumerable<Finding> Inotify(TreeInspection tree)
    {
        foreach (var process in tree.Processes)
        {
            foreach (var open in process.Descriptors)
            {
                foreach (var device in open.Info.WatchedDevices)
                {
                    if (process.Mounts.Values.FirstOrDefault(mount => mount.Device == device) is { FileSystem: "proc" or "sysfs" } mount)
                    {
                        yield return new Finding(
                            CheckVerdict.Failed,
                            $"{Capital(open.Name)} watches a file below {mount.MountPoint} by inotify, which CRIU cannot dump.",
                            "Configure the program not to watch files there.");
                    }
                }
            }
        }
    }

    /// <summary>System V shared memory that lives in the host's name space.</summary>
    public static IEnumerable<Finding> SystemVMemory(TreeInspection tree)
    {
        if (tree.OwnNamespaces.Contains("ipc")) yield break;
        foreach (var process in tree.Processes)
        {
            if (process.Mappings.FirstOrDefault(mapping => mapping.IsSystemV) is { } mapping)
            {
                yield return new Finding(
                    CheckVerdict.Failed,
                    $"{Capital(process.Name)} maps System V shared memory ({mapping.Path} at {mapping.Start:x}) of the host's "
                    + "IPC namespace.",
                    "Start the program in an IPC namespace of its own (unshare --ipc, or PrivateIPC=yes in its systemd unit).");
            }
        }
    }

    /// <summary>Tasks that somebody traces: CRIU would have to trace them itself.</summary>
    public static IEnumerable<Finding> Traced(TreeInspection tree) =>
        from process in tree.Processes
        where process.Status.TracerPid != 0
        select new Finding(
            CheckVerdict.Failed, $"{Capital(process.Name)} is traced by process {process.Status.TracerPid} (a debugger, strace).",
            $"Detach process {process.Status.TracerPid}.");

    /// <summary>Internet and packet sockets, for a CRIU that is older than what the kernel made of SO_PASSCRED.</summary>
    public static IEnumerable<Finding> SocketOptions(TreeInspection tree, CriuVersion? criu, string kernelRelease)
    {
        if (criu is null || criu.IsAtLeast(4, 2) || !HostFacts.IsKernelAtLeast(kernelRelease, 6, 16)) return [];
        return
            from open in tree.Descriptors
            where open.SocketProtocol is { } protocol
                && PasscredProtocols.Any(known => protocol.StartsWith(known, StringComparison.Ordinal))
            select new Finding(
                CheckVerdict.Failed,
                $"{Capital(open.Name)} is a {open.SocketProtocol} socket: criu {criu} cannot dump those on Linux 6.16 and "
                + $"later ({kernelRelease}).",
                "Install criu 4.2 or later on the source.");
    }

    /// <summary>Namespaces that CRIU cannot take along.</summary>
    public static IEnumerable<Finding> Namespaces(TreeInspection tree, ProcessOptions options)
    {
        if (tree.OwnNamespaces.Contains("mnt") && options.Root is null)
        {
            yield return new Finding(
                CheckVerdict.Failed,
                "The tree has a mount namespace of its own: the destination must be told where its root file system is.",
                "Give --root PATH / -Root PATH: the directory on the destination that holds the tree's root file system.");
        }

        if (tree.OwnNamespaces.Contains("pid")
            && tree.Processes.FirstOrDefault(process => process.Member.Pid == tree.Tree.RootPid) is { } root
            && root.Status.NamespacePids is [.., not 1])
        {
            yield return new Finding(
                CheckVerdict.Failed, $"{Capital(root.Name)} is in a pid namespace of its own but is not the init process of it.",
                "Migrate the init process of that namespace (the container), or run Phaul inside it.");
        }

        foreach ((int pid, string kind) in tree.NestedNamespaces)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"Process {pid} has another {kind} namespace than the root of the tree, which CRIU cannot dump.",
                "Migrate the container inside by itself.");
        }
    }

    private static string Capital(string name) => char.ToUpperInvariant(name[0]) + name[1..];
}
