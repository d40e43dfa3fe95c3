// Open and mapped files that have lost their name: CRIU must carry their content, or give them a name for a while.

using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>A file that cannot be found by the path under which the tree knows it.</summary>
/// <param name="Where">Who has it, in words.</param>
/// <param name="Path">The path.</param>
/// <param name="Status">The file.</param>
/// <param name="IsShadowed">Another file has the path now.</param>
internal sealed record UnlinkedFile(string Where, string Path, FileStatus Status, bool IsShadowed)
{
    /// <summary>It has no name at all any more: it travels in the images.</summary>
    public bool IsGhost => Status.LinkCount == 0;

    /// <summary>All such files of a tree, each once.</summary>
    public static IReadOnlyList<UnlinkedFile> Of(TreeInspection tree, ProcFileSystem proc)
    {
        string root = RootPath(tree, proc);
        var found = new Dictionary<(ulong, (uint, uint)), UnlinkedFile>();
        foreach (var open in tree.Descriptors)
        {
            if (!open.HasPath || open.Mount?.IsKernelInterface == true || open.Status is not { } status) continue;
            if (status is { IsRegular: false, IsDirectory: false }) continue;
            Add(open.Name, open.Link, open.IsMarkedDeleted, status);
        }

        foreach (var process in tree.Processes)
        {
            foreach (var mapping in process.Mappings)
            {
                if (!mapping.IsDeleted || mapping.IsSharedMemory || !IsFilePath(mapping.Path)) continue;
                if (FileStatus.Of(proc.PathOf($"{process.Member.Pid}/map_files/{mapping.RangeName}")) is not { } status) continue;
                Add($"{process.Name}, mapping {mapping.RangeName}", mapping.Path, true, status);
            }
        }

        return [.. found.Values];

        void Add(string where, string path, bool markedDeleted, FileStatus status)
        {
            if (found.ContainsKey((status.Inode, status.Device))) return;
            bool shadowed = false;
            if (status.LinkCount > 0 && !markedDeleted)
            {
                if (FileStatus.Of(root + path, follow: false) is { } byPath)
                {
                    if (byPath.IsSameFileAs(status)) return;
                    shadowed = true;
                }
            }

            found[(status.Inode, status.Device)] = new UnlinkedFile(where, path, status, shadowed);
        }
    }

    /// <summary>What leads to the tree's files: nothing, or /proc/PID/root where its mounts are its own.</summary>
    public static string RootPath(TreeInspection tree, ProcFileSystem proc) =>
        tree.OwnNamespaces.Contains("mnt") ? proc.PathOf($"{tree.Tree.RootPid}/root") : "";

    // Mappings of kernel objects look like deleted files in the root directory: /[aio], /anon_hugepage, /dmabuf:...
    private static bool IsFilePath(string path) =>
        path.StartsWith('/') && !path.StartsWith("/[", StringComparison.Ordinal) && path != "/anon_hugepage"
        && !path.StartsWith("/dmabuf", StringComparison.Ordinal);
}
