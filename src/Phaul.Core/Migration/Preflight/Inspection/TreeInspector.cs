// Looks at a tree from outside. It only reads: nothing is stopped, traced, opened for writing or changed.

using System.Globalization;
using Phaul.Engines;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>Makes a <see cref="TreeInspection"/>.</summary>
/// <param name="proc">The procfs.</param>
internal sealed class TreeInspector(ProcFileSystem proc)
{
    private const int MaxDescriptors = 200_000;
    private const int MaxNotes = 50;
    private const string DeletedSuffix = " (deleted)";

    // CRIU lets only mount and network namespaces be nested; cgroup namespaces it takes up separately.
    private static readonly string[] NamespaceKinds = ["mnt", "net", "pid", "ipc", "uts", "user", "time", "cgroup"];
    private static readonly HashSet<string> Nestable = ["mnt", "net", "cgroup"];

    private readonly List<string> _notes = [];
    private int _descriptors;

    /// <summary>Looks at a tree. Synchronous file access inside, on a thread of the pool.</summary>
    public static Task<TreeInspection> InspectAsync(ProcessTree tree, CancellationToken cancellationToken) =>
        Task.Run(() => new TreeInspector(ProcFileSystem.Host).RunAsync(tree, cancellationToken), cancellationToken);

    private async Task<TreeInspection> RunAsync(ProcessTree tree, CancellationToken cancellationToken)
    {
        var own = NamespacesOf("self");
        var root = NamespacesOf(Invariant(tree.RootPid));
        var processes = new List<ProcessInspection>();
        var nested = new List<(int Pid, string Kind)>();
        foreach (var member in tree.Members)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (Inspect(member, cancellationToken) is not { } process) continue;
            processes.Add(process);
            var theirs = NamespacesOf(Invariant(member.Pid));
            nested.AddRange(theirs
                .Where(pair => !Nestable.Contains(pair.Key) && root.TryGetValue(pair.Key, out string? of) && of != pair.Value)
                .Select(pair => (member.Pid, pair.Key)));
        }

        var inodes = processes.SelectMany(process => process.Descriptors).Select(open => open.SocketInode).OfType<ulong>().ToHashSet();
        var inet = new Dictionary<ulong, ProcInetSocket>();
        if (inodes.Count > 0)
        {
            foreach (var socket in ProcInetSocket.Read(proc, Invariant(tree.RootPid)))
            {
                if (socket.Inode != 0 && inodes.Contains(socket.Inode)) inet[socket.Inode] = socket;
            }
        }

        var foreign = root.Where(pair => own.TryGetValue(pair.Key, out string? ours) && ours != pair.Value).Select(pair => pair.Key)
            .ToHashSet();
        bool hasUnixSockets = processes.SelectMany(process => process.Descriptors)
            .Any(open => open.SocketProtocol?.StartsWith("UNIX", StringComparison.Ordinal) == true);
        return new TreeInspection
        {
            Tree = tree,
            Processes = processes,
            OwnNamespaces = foreign,
            NestedNamespaces = nested,
            InetSockets = inet,
            UnixSockets = hasUnixSockets
                ? await UnixSocketsAsync(tree.RootPid, foreign.Contains("net")).WaitAsync(cancellationToken).ConfigureAwait(false)
                : new Dictionary<uint, UnixSocketEntry>(),
            Notes = _notes,
        };
    }

    private async Task<IReadOnlyDictionary<uint, UnixSocketEntry>?> UnixSocketsAsync(int rootPid, bool elsewhere)
    {
        try
        {
            return await UnixSocketTable.ReadAsync(elsewhere ? proc.PathOf($"{rootPid}/ns/net") : null).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NativeException)
        {
            Note($"The peers of UNIX sockets could not be told: {e.Message}");
            return null;
        }
    }

    private ProcessInspection? Inspect(TreeMember member, CancellationToken cancellationToken)
    {
        int pid = member.Pid;
        if (ProcStat.Read(proc, pid) is not { } stat || stat.StartTime != member.StartTime || stat.HasEnded) return null;
        if (ProcStatus.Read(proc, Invariant(pid)) is not { } status) return null;

        string? rollup = proc.ReadText($"{pid}/smaps_rollup");
        if (rollup is null) Note($"The memory of process {pid} ({member.Command}) could not be read from smaps_rollup.");
        var mounts = ProcMount.Read(proc, pid).ToLookup(mount => mount.Id).ToDictionary(group => group.Key, group => group.First());
        return new ProcessInspection
        {
            Member = member,
            Status = status,
            TerminalDevice = stat.TerminalDevice,
            Descriptors = Descriptors(member, mounts, cancellationToken),
            Mappings = ProcMapping.Read(proc, pid),
            Places = [.. new[] { "exe", "cwd", "root" }.Select(name => proc.ReadLink($"{pid}/{name}")).OfType<string>()],
            AnonymousBytes = rollup is null ? 0 : Kibibytes(rollup, "Anonymous:") + Kibibytes(rollup, "Swap:"),
            Mounts = mounts,
        };
    }

    private List<OpenDescriptor> Descriptors(TreeMember member, Dictionary<int, ProcMount> mounts, CancellationToken cancellationToken)
    {
        var found = new List<OpenDescriptor>();
        foreach (int number in proc.ReadNumbers($"{member.Pid}/fd"))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_descriptors == MaxDescriptors)
            {
                Note($"The tree has more than {MaxDescriptors} open descriptors; the rest was not looked at.");
                break;
            }

            string name = $"{member.Pid}/fd/{number}";
            if (proc.ReadLink(name) is not { } link || proc.ReadText($"{member.Pid}/fdinfo/{number}") is not { } text) continue;
            _descriptors++;
            var info = ProcDescriptorInfo.Parse(text);
            bool deleted = link.EndsWith(DeletedSuffix, StringComparison.Ordinal);
            found.Add(new OpenDescriptor(
                member, number, deleted ? link[..^DeletedSuffix.Length] : link, deleted, FileStatus.Of(proc.PathOf(name)), info,
                mounts.GetValueOrDefault(info.MountId),
                link.StartsWith("socket:[", StringComparison.Ordinal) ? SocketProtocol.Of(proc.PathOf(name)) : null));
        }

        return found;
    }

    private Dictionary<string, string> NamespacesOf(string pid)
    {
        var found = new Dictionary<string, string>();
        foreach (string kind in NamespaceKinds)
        {
            if (proc.ReadLink($"{pid}/ns/{kind}") is { } link) found[kind] = link;
        }

        return found;
    }

    private void Note(string note)
    {
        if (_notes.Count < MaxNotes) _notes.Add(note);
    }

    private static ulong Kibibytes(string text, string label)
    {
        foreach (var line in text.AsSpan().EnumerateLines())
        {
            if (!line.StartsWith(label)) continue;
            var value = line[label.Length..].Trim();
            int blank = value.IndexOf(' ');
            return ulong.TryParse(blank < 0 ? value : value[..blank], NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
                ? number * 1024
                : 0;
        }

        return 0;
    }

    private static string Invariant(int number) => number.ToString(CultureInfo.InvariantCulture);
}
