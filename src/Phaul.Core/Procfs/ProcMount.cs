// /proc/PID/mountinfo: which file system is where.

using System.Globalization;

namespace Phaul.Procfs;

/// <summary>One mount.</summary>
/// <param name="Id">Its number, which fdinfo refers to.</param>
/// <param name="Device">The device of its files.</param>
/// <param name="MountPoint">Where it is.</param>
/// <param name="FileSystem">The type of its file system: <c>proc</c>, <c>ext4</c>, <c>overlay</c> …</param>
internal sealed record ProcMount(int Id, (uint Major, uint Minor) Device, string MountPoint, string FileSystem)
{
    /// <summary>Files that the kernel makes up: they exist on every host, in no size worth comparing.</summary>
    public bool IsKernelInterface => FileSystem is "proc" or "sysfs" or "devpts" or "cgroup" or "cgroup2" or "debugfs" or "tracefs"
        or "securityfs" or "bpf" or "mqueue" or "pstore" or "configfs" or "fusectl" or "nsfs";

    /// <summary>The mounts that a process sees; empty if it is gone.</summary>
    public static IReadOnlyList<ProcMount> Read(ProcFileSystem proc, int pid) =>
        proc.ReadText($"{pid}/mountinfo") is { } text ? Parse(text) : [];

    /// <summary>Parses the file; lines that are none are left out.</summary>
    public static IReadOnlyList<ProcMount> Parse(string text)
    {
        var mounts = new List<ProcMount>();
        foreach (string line in text.Split('\n'))
        {
            // 36 35 98:0 /root /mount/point options optional fields - type source superoptions
            string[] fields = line.Split(' ');
            int separator = Array.IndexOf(fields, "-");
            if (separator < 6 || separator + 1 >= fields.Length) continue;
            string[] device = fields[2].Split(':');
            if (device.Length == 2
                && int.TryParse(fields[0], NumberStyles.None, CultureInfo.InvariantCulture, out int id)
                && uint.TryParse(device[0], NumberStyles.None, CultureInfo.InvariantCulture, out uint major)
                && uint.TryParse(device[1], NumberStyles.None, CultureInfo.InvariantCulture, out uint minor))
                mounts.Add(new ProcMount(id, (major, minor), Unescape(fields[4]), fields[separator + 1]));
        }

        return mounts;
    }

    // Blanks, tabs, line feeds and backslashes are written as three octal digits.
    private static string Unescape(string text)
    {
        if (!text.Contains('\\', StringComparison.Ordinal)) return text;
        var plain = new System.Text.StringBuilder(text.Length);
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\\' && i + 3 < text.Length && text.AsSpan(i + 1, 3).IndexOfAnyExceptInRange('0', '7') < 0)
            {
                plain.Append((char)(((text[i + 1] - '0') << 6) | ((text[i + 2] - '0') << 3) | (text[i + 3] - '0')));
                i += 3;
            }
            else
            {
                plain.Append(text[i]);
            }
        }

        return plain.ToString();
    }
}
