// Which of CRIU's options a tree needs, and because of what.

using System.Globalization;
using Phaul.Native;

namespace Phaul.Preflight;

/// <summary>The reasons why a tree needs an option; empty: it does not.</summary>
internal static class NeededOptions
{
    private const int PseudoterminalMaster = 2; // minor number of /dev/ptmx on major 5

    /// <summary>Locks on files (<c>--file-locks</c>).</summary>
    public static IEnumerable<string> FileLocks(TreeInspection tree) =>
        from open in tree.Descriptors
        from held in open.Info.Locks
        select $"{Capital(open.Name)} holds a {held.Kind} {held.Access} lock on {open.Link}.";

    /// <summary>TCP connections (<c>--tcp-established</c>).</summary>
    public static IEnumerable<string> TcpEstablished(TreeInspection tree) =>
        from open in Sockets(tree)
        let socket = tree.InetSockets.GetValueOrDefault(open.SocketInode!.Value)
        where socket is { IsConnection: true }
        select $"{Capital(open.Name)} is a TCP connection, {socket.Local} to {socket.Remote}.";

    /// <summary>Connections that nobody has accepted yet (<c>--skip-in-flight</c>).</summary>
    public static IEnumerable<string> TcpInFlight(TreeInspection tree) =>
        from open in Sockets(tree)
        let socket = tree.InetSockets.GetValueOrDefault(open.SocketInode!.Value)
        where socket is { IsTcp: true, IsListening: true, ReceiveQueue: > 0 }
        select $"{Capital(open.Name)} listens on {socket.Local} with {socket.ReceiveQueue} connections not accepted yet.";

    /// <summary>UNIX sockets whose other end is outside the tree (<c>--ext-unix-sk</c>).</summary>
    public static IEnumerable<ExternalUnixSocket> ExternalUnixSockets(TreeInspection tree)
    {
        if (tree.UnixSockets is not { } table) yield break;
        var own = Sockets(tree).Select(open => open.SocketInode!.Value).ToHashSet();
        foreach (var open in Sockets(tree))
        {
            if (open.SocketInode is not (var inode and <= uint.MaxValue)) continue;
            if (table.GetValueOrDefault((uint)inode) is not { PeerInode: not 0 } socket || own.Contains(socket.PeerInode)) continue;
            yield return new ExternalUnixSocket(open, socket, table.GetValueOrDefault(socket.PeerInode));
        }
    }

    /// <summary>A terminal, or a session led from outside (<c>--shell-job</c>).</summary>
    public static IEnumerable<string> ShellJob(TreeInspection tree)
    {
        var root = tree.Tree.Root;
        if (root.SessionId != root.Pid)
        {
            string leader = root.SessionId == 0 ? "a process that cannot be seen from here" : Invariant($"process {root.SessionId}");
            yield return Invariant($"Process {root.Pid} ({root.Command}) is not a session leader: its session is that of {leader}.");
        }

        var members = tree.Tree.Members.Select(member => member.Pid).ToHashSet();
        foreach (var process in tree.Processes)
        {
            if (process.TerminalDevice != 0 && !members.Contains(process.Member.SessionId))
                yield return $"{Capital(process.Name)} has a controlling terminal that belongs to a session outside the tree.";
        }

        // A terminal emulator (tmux, sshd) in the tree has the other side of its terminals; without that, they are outside.
        bool hasMaster = tree.Descriptors.Any(open => open.Status?.RealDevice is (5, PseudoterminalMaster));
        if (hasMaster) yield break;
        foreach (var open in tree.Descriptors)
        {
            if (open.IsTerminal && open.Status!.RealDevice.Major >= 136) yield return $"{Capital(open.Name)} is the terminal {open.Link}.";
        }
    }

    /// <summary>The names, as criu(8) has them, of the options that a tree needs.</summary>
    public static IEnumerable<string> NamesFor(TreeInspection tree, IReadOnlyList<UnlinkedFile> unlinked)
    {
        if (FileLocks(tree).Any()) yield return "file-locks";
        if (TcpEstablished(tree).Any()) yield return "tcp-established";
        if (ExternalUnixSockets(tree).Any()) yield return "ext-unix-sk";
        if (ShellJob(tree).Any()) yield return "shell-job";
        if (unlinked.Any(file => !file.IsGhost)) yield return "link-remap";
    }

    private static IEnumerable<OpenDescriptor> Sockets(TreeInspection tree) => tree.Descriptors.Where(open => open.SocketInode is not null);

    private static string Invariant(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static string Capital(string name) => char.ToUpperInvariant(name[0]) + name[1..];
}

/// <summary>A UNIX socket connected to one outside the tree.</summary>
/// <param name="Open">The tree's end.</param>
/// <param name="Socket">The same, as the kernel lists it.</param>
/// <param name="Peer">The other end; null if the kernel does not list it.</param>
internal sealed record ExternalUnixSocket(OpenDescriptor Open, UnixSocketEntry Socket, UnixSocketEntry? Peer)
{
    /// <summary>CRIU can restore only datagram sockets that send to a name.</summary>
    public bool CanBeRestored => Socket.IsDatagram && Peer?.Name is not null;

    /// <summary>In words.</summary>
    public string Description =>
        $"{char.ToUpperInvariant(Open.Name[0])}{Open.Name[1..]} is a UNIX {(Socket.IsDatagram ? "datagram" : "stream")} socket "
        + "connected to "
        + (Peer?.Name is { } name ? $"{name}, outside the tree." : "a process outside the tree.");
}
