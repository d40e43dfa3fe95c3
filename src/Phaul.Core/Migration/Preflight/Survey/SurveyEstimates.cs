// How much memory and how many image bytes a tree will take.

using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Preflight;

internal static class SurveyEstimates
{
    /// <summary>Page data: anonymous memory of each process, and memory that they share, once.</summary>
    public static long MemoryBytes(TreeInspection tree, ProcFileSystem proc)
    {
        long bytes = 0;
        var seen = new HashSet<(ulong, (uint, uint))>();
        foreach (var process in tree.Processes)
        {
            bytes += (long)process.AnonymousBytes;
            foreach (var mapping in process.Mappings)
            {
                if (!mapping.IsSharedMemory || !mapping.IsShared) continue;
                // The file behind it tells how many of its pages exist.
                var status = FileStatus.Of(proc.PathOf($"{process.Member.Pid}/map_files/{mapping.RangeName}"));
                if (status is null) bytes += (long)mapping.Length;
                else if (seen.Add((status.Inode, status.Device))) bytes += status.AllocatedBytes;
            }
        }

        foreach (var open in tree.Descriptors)
        {
            if (open.IsMemoryFile && open.Status is { } status && seen.Add((status.Inode, status.Device))) bytes += status.AllocatedBytes;
        }

        return bytes;
    }

    /// <summary>All images but the page data, rounded up generously: they are small, and running out of space costs a migration.</summary>
    public static long ImageBytes(TreeInspection tree, IReadOnlyList<UnlinkedFile> unlinked)
    {
        const long fixedPart = 1 << 20; // logs at full verbosity, cgroups, mounts, inventory
        const long perProcess = 128 << 10; // core, mm, ids, fs, and its part of the log
        const long perThread = 16 << 10; // registers with the largest vector state
        const long perMapping = 256;
        const long perDescriptor = 1024;
        const long perSocket = 32 << 10; // what is queued in it
        long bytes = fixedPart;
        foreach (var process in tree.Processes)
        {
            bytes += perProcess + (process.Member.ThreadIds.Count * perThread) + (process.Mappings.Count * perMapping)
                + (process.Descriptors.Count * perDescriptor) + (long)(process.AnonymousBytes / 512);
            bytes += perSocket * process.Descriptors.Count(
                open => open.SocketInode is not null || open.Link.StartsWith("pipe:", StringComparison.Ordinal));
        }

        return bytes + unlinked.Where(file => file.IsGhost && file.Status.IsRegular).Sum(file => file.Status.AllocatedBytes);
    }
}
