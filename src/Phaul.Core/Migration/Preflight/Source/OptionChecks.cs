// Options that the tree needs and the request lacks. Each would make CRIU refuse the dump; here it is said before, with the option's name.

using Phaul.Procfs;

namespace Phaul.Preflight;

internal static class OptionChecks
{
    /// <summary>Locks on files.</summary>
    public static IEnumerable<Finding> FileLocks(TreeInspection tree, ProcessOptions options) =>
        Lacking(options.FileLocks, NeededOptions.FileLocks(tree), "Give --file-locks / -FileLocks to move file locks.");

    /// <summary>TCP connections.</summary>
    public static IEnumerable<Finding> TcpEstablished(TreeInspection tree, ProcessOptions options)
    {
        foreach (var finding in Lacking(
            options.TcpEstablished || options.TcpClose, NeededOptions.TcpEstablished(tree),
            "Give --tcp-established / -TcpEstablished to move connections (the destination must own their address), "
            + "or --tcp-close / -TcpClose to close them."))
            yield return finding;

        if (options.TcpSkipInFlight) yield break;
        foreach (string reason in NeededOptions.TcpInFlight(tree))
        {
            // They come and go: by the time of the dump they may have been accepted.
            yield return new Finding(
                CheckVerdict.Warning, reason,
                "Give --skip-in-flight / -TcpSkipInFlight to leave connections out that are not accepted yet.");
        }
    }

    /// <summary>UNIX sockets connected to the outside.</summary>
    public static IEnumerable<Finding> ExternalUnixSockets(TreeInspection tree, ProcessOptions options)
    {
        if (tree.UnixSockets is null)
            yield return new Finding(CheckVerdict.Warning,
                "Whether UNIX sockets are connected to processes outside the tree could not be told.");
        foreach (var socket in NeededOptions.ExternalUnixSockets(tree))
        {
            bool named = options.External.Contains($"unix[{socket.Socket.Inode}]");
            if (named) continue;
            if (!socket.CanBeRestored)
            {
                yield return new Finding(
                    CheckVerdict.Failed, socket.Description
                        + " CRIU moves only datagram sockets that are connected to a named one outside.",
                    "Let the program close this connection, or migrate both ends as one tree.");
            }
            else if (!options.ExternalUnixSockets)
            {
                yield return new Finding(
                    CheckVerdict.Failed, socket.Description,
                    "Give --ext-unix-sk / -ExternalUnixSockets to connect it to the socket of the same name on the destination.");
            }
        }
    }

    /// <summary>Terminals and sessions.</summary>
    public static IEnumerable<Finding> ShellJob(TreeInspection tree, ProcessOptions options) =>
        Lacking(
            options.ShellJob, NeededOptions.ShellJob(tree),
            "Give --shell-job / -ShellJob, or start the program with setsid and its standard streams on files.");

    /// <summary>Files that have lost the name by which they were opened, but have another.</summary>
    public static IEnumerable<Finding> LinkRemap(TreeInspection tree, ProcessOptions options)
    {
        foreach (var file in UnlinkedFile.Of(tree, ProcFileSystem.Host))
        {
            string where = $"{char.ToUpperInvariant(file.Where[0])}{file.Where[1..]}";
            if (file.IsGhost) continue;
            if (file.IsShadowed)
            {
                yield return new Finding(
                    CheckVerdict.Failed,
                    $"{where}: {file.Path} has been replaced by another file since it was opened, and CRIU refuses that.",
                    "Let the program open the file again (many do on SIGHUP), or restart it.");
            }
            else if (!options.LinkRemap)
            {
                yield return new Finding(
                    CheckVerdict.Failed, $"{where}: {file.Path} was unlinked or renamed since it was opened, but has another name.",
                    "Give --link-remap / -LinkRemap.");
            }
        }
    }

    /// <summary>Files without any name: they travel in the images, up to a size.</summary>
    public static IEnumerable<Finding> GhostLimit(TreeInspection tree, ProcessOptions options) =>
        from file in UnlinkedFile.Of(tree, ProcFileSystem.Host)
        where file.IsGhost && file.Status.IsRegular && file.Status.AllocatedBytes > options.GhostLimit
        select new Finding(
            CheckVerdict.Failed,
            $"{char.ToUpperInvariant(file.Where[0])}{file.Where[1..]}: the unlinked file {file.Path} occupies "
            + $"{file.Status.AllocatedBytes} bytes, more than the limit of {options.GhostLimit}.",
            $"Give --ghost-limit {RoundUp(file.Status.AllocatedBytes)} / -GhostLimit {RoundUp(file.Status.AllocatedBytes)}.");

    private static IEnumerable<Finding> Lacking(bool given, IEnumerable<string> reasons, string remedy) =>
        given ? [] : reasons.Select(reason => new Finding(CheckVerdict.Failed, reason, remedy));

    // Room for a file that still grows a little.
    private static long RoundUp(long bytes) => ((bytes >> 20) + 1) << 20;
}
