// /proc/PID/maps: what a process has mapped.

using System.Globalization;
using System.Text;

namespace Phaul.Procfs;

/// <summary>One mapping.</summary>
/// <param name="Start">Its first address.</param>
/// <param name="End">The address after its last.</param>
/// <param name="Permissions">Four characters: <c>r w x</c> or <c>-</c> each, then <c>p</c> private or <c>s</c> shared.</param>
/// <param name="Inode">The file's number; 0: none.</param>
/// <param name="Path">The file, or a name such as <c>[heap]</c>; empty: anonymous. Without the suffix that marks a deleted file.</param>
/// <param name="IsDeleted">The file has lost the name by which it was mapped.</param>
internal sealed record ProcMapping(ulong Start, ulong End, string Permissions, ulong Inode, string Path, bool IsDeleted)
{
    private const string DeletedSuffix = " (deleted)";

    /// <summary>Bytes.</summary>
    public ulong Length => End - Start;

    /// <summary>Writes go to the file or to the others who map it.</summary>
    public bool IsShared => Permissions[3] == 's';

    /// <summary>It may be written.</summary>
    public bool IsWritable => Permissions[1] == 'w';

    /// <summary>It may be executed.</summary>
    public bool IsExecutable => Permissions[2] == 'x';

    /// <summary>Shared System V memory.</summary>
    public bool IsSystemV => IsDeleted && Path.StartsWith("/SYSV", StringComparison.Ordinal);

    /// <summary>Shared memory without a file that others could open by name: <c>mmap(MAP_SHARED | MAP_ANONYMOUS)</c> or a memfd.</summary>
    public bool IsSharedMemory =>
        IsSystemV || (IsDeleted && (Path == "/dev/zero" || Path.StartsWith("/memfd:", StringComparison.Ordinal)));

    /// <summary>A file with a name.</summary>
    public bool IsNamedFile => Inode != 0 && !IsDeleted && Path.StartsWith('/');

    /// <summary>The name of its link in <c>/proc/PID/map_files</c>.</summary>
    public string RangeName => $"{Start:x}-{End:x}";

    /// <summary>The mappings of a process; empty if it is gone.</summary>
    public static IReadOnlyList<ProcMapping> Read(ProcFileSystem proc, int pid) =>
        proc.ReadText($"{pid}/maps") is { } text ? Parse(text) : [];

    /// <summary>Parses the file; lines that are none are left out.</summary>
    public static IReadOnlyList<ProcMapping> Parse(string text)
    {
        var mappings = new List<ProcMapping>();
        foreach (string line in text.Split('\n'))
        {
            // Five fields of single blanks, padding, and a path in which only a line feed is escaped.
            string[] fields = line.Split(' ', 6);
            if (fields.Length < 5 || fields[1].Length != 4) continue;
            string[] range = fields[0].Split('-');
            if (range.Length != 2
                || !ulong.TryParse(range[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong start)
                || !ulong.TryParse(range[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong end)
                || end < start
                || !ulong.TryParse(fields[4], NumberStyles.None, CultureInfo.InvariantCulture, out ulong inode))
                continue;

            string path = (fields.Length > 5 ? fields[5].TrimStart(' ') : "").Replace("\\012", "\n", StringComparison.Ordinal);
            bool deleted = path.EndsWith(DeletedSuffix, StringComparison.Ordinal);
            mappings.Add(new ProcMapping(start, end, fields[1], inode, deleted ? path[..^DeletedSuffix.Length] : path, deleted));
        }

        return mappings;
    }
}
