// /proc/PID/fdinfo/N: how a descriptor was opened, what it locks, what it watches.

using System.Globalization;

namespace Phaul.Procfs;

/// <summary>A lock that is held through a descriptor.</summary>
/// <param name="Kind"><c>POSIX</c>, <c>FLOCK</c>, <c>OFDLCK</c>, <c>LEASE</c>, <c>DELEG</c>.</param>
/// <param name="Access"><c>READ</c>, <c>WRITE</c> …</param>
/// <param name="OwnerPid">Who took it; -1 where that is nobody's in particular.</param>
internal sealed record ProcLock(string Kind, string Access, int OwnerPid)
{
    /// <summary>Parses a line of /proc/locks, or what follows <c>lock:</c> in fdinfo; null if it is none, or a waiter's.</summary>
    public static ProcLock? Parse(string line)
    {
        // 1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF
        string[] fields = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return fields.Length >= 6 && fields[0].EndsWith(':') && fields[1] != "->"
            && int.TryParse(fields[4], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int owner)
            ? new ProcLock(fields[1], fields[3], owner)
            : null;
    }
}

/// <summary>The lines of proc_pid_fdinfo(5) that matter here.</summary>
internal sealed record ProcDescriptorInfo
{
    /// <summary>The flags of open(2).</summary>
    public uint Flags { get; init; }

    /// <summary>The mount that the file was opened on; -1 if it is not said.</summary>
    public int MountId { get; init; } = -1;

    /// <summary>The locks that are held.</summary>
    public IReadOnlyList<ProcLock> Locks { get; init; } = [];

    /// <summary>The devices on which inotify watches files.</summary>
    public IReadOnlyList<(uint Major, uint Minor)> WatchedDevices { get; init; } = [];

    /// <summary>The process that a pidfd stands for; -1: one that has ended; null: it is no pidfd.</summary>
    public int? ProcessId { get; init; }

    /// <summary>Opened for writing (only, or as well).</summary>
    public bool IsWritable => (Flags & 3) != 0 && !IsPathOnly;

    /// <summary>Opened only as a path (O_PATH).</summary>
    public bool IsPathOnly => (Flags & 0x20_0000) != 0;

    /// <summary>Only ever appended to, as a log is: CRIU then does not compare the size on restore.</summary>
    public bool IsAppendOnly => (Flags & 3) == 1 && (Flags & 0x400) != 0;

    /// <summary>Parses the file. Lines that are missing or garbled leave their defaults.</summary>
    public static ProcDescriptorInfo Parse(string text)
    {
        var info = new ProcDescriptorInfo();
        List<ProcLock>? locks = null;
        List<(uint Major, uint Minor)>? devices = null;
        foreach (string line in text.Split('\n'))
        {
            if (line.StartsWith("flags:", StringComparison.Ordinal))
            {
                info = info with { Flags = Octal(line[6..].Trim()) };
            }
            else if (line.StartsWith("mnt_id:", StringComparison.Ordinal))
            {
                if (int.TryParse(line[7..].Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out int mount))
                    info = info with { MountId = mount };
            }
            else if (line.StartsWith("Pid:", StringComparison.Ordinal))
            {
                if (int.TryParse(line[4..].Trim(), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int process))
                    info = info with { ProcessId = process };
            }
            else if (line.StartsWith("lock:", StringComparison.Ordinal))
            {
                if (ProcLock.Parse(line[5..]) is { } held) (locks ??= []).Add(held);
            }
            else if (line.StartsWith("inotify ", StringComparison.Ordinal))
            {
                int at = line.IndexOf(" sdev:", StringComparison.Ordinal);
                if (at < 0) continue;
                string word = line[(at + 6)..].Split(' ')[0];
                if (uint.TryParse(word, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint device))
                    (devices ??= []).Add((device >> 20, device & 0xf_ffff));
            }
        }

        return info with { Locks = locks ?? info.Locks, WatchedDevices = devices ?? info.WatchedDevices };
    }

    private static uint Octal(string text)
    {
        ulong number = 0;
        foreach (char digit in text)
        {
            if (digit is < '0' or > '7' || (number = (number << 3) | (uint)(digit - '0')) > uint.MaxValue) return 0;
        }

        return (uint)number;
    }
}
