// Files that another host sees as well: what is done when they are closed must be done before a copy there opens them.

using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>Looks for open files on file systems that hosts share.</summary>
internal static class NetworkFiles
{
    /// <summary>Whether a process of a tree has one open. What cannot be looked at counts as one.</summary>
    public static bool AreOpenIn(ProcessTree tree, ProcFileSystem proc) => tree.Members.Any(member =>
    {
        var shared = ProcMount.Read(proc, member.Pid).Where(mount => IsShared(mount.FileSystem)).Select(mount => mount.Id).ToHashSet();
        return shared.Count > 0 && proc.ReadNumbers($"{member.Pid}/fdinfo").Any(number =>
            proc.ReadText($"{member.Pid}/fdinfo/{number}") is not { } info || shared.Contains(ProcDescriptorInfo.Parse(info).MountId));
    });

    private static bool IsShared(string fileSystem) => fileSystem is "nfs" or "nfs4" or "cifs" or "smb3" or "ceph" or "9p" or "gfs2" or "ocfs2"
        or "lustre" or "afs" or "gpfs" or "beegfs" or "glusterfs" || fileSystem.StartsWith("fuse", StringComparison.Ordinal);
}
