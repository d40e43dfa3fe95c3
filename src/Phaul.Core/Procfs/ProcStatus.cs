// /proc/PID/status: ids, capabilities, who traces whom.

using System.Globalization;

namespace Phaul.Procfs;

/// <summary>The lines of proc_pid_status(5) that matter here.</summary>
internal sealed record ProcStatus
{
    // Signal 9, counted from bit 0 for signal 1
    private const ulong KillBit = 1UL << 8;

    /// <summary>The command name, escaped as the kernel does it.</summary>
    public string Name { get; init; } = "";

    /// <summary>The process that this thread belongs to.</summary>
    public int ThreadGroupId { get; init; }

    /// <summary>Who traces it; 0: nobody.</summary>
    public int TracerPid { get; init; }

    /// <summary>Real, effective, saved and file-system user id.</summary>
    public IReadOnlyList<uint> Uids { get; init; } = [];

    /// <summary>Real, effective, saved and file-system group id.</summary>
    public IReadOnlyList<uint> Gids { get; init; } = [];

    /// <summary>Its pid in each pid namespace, this one's first.</summary>
    public IReadOnlyList<int> NamespacePids { get; init; } = [];

    /// <summary>It has been killed and has not died of it yet.</summary>
    public bool IsKillPending { get; init; }

    /// <summary>Effective capabilities, one bit each.</summary>
    public ulong EffectiveCapabilities { get; init; }

    /// <summary>All capabilities that it has: effective, permitted or inheritable, one bit each.</summary>
    public ulong AllCapabilities { get; init; }

    /// <summary>Address space, in bytes.</summary>
    public ulong VirtualBytes { get; init; }

    /// <summary>Reads <c>/proc/NAME/status</c>; null if there is no such process.</summary>
    public static ProcStatus? Read(ProcFileSystem proc, string name) => proc.ReadText($"{name}/status") is { } text ? Parse(text) : null;

    /// <summary>Parses the file. Lines that are missing leave their defaults.</summary>
    public static ProcStatus Parse(string text)
    {
        var status = new ProcStatus();
        foreach (string line in text.Split('\n'))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0) continue;
            string value = line[(colon + 1)..].Trim();
            status = line[..colon] switch
            {
                "Name" => status with { Name = value },
                "Tgid" => status with { ThreadGroupId = (int)Number(value) },
                "TracerPid" => status with { TracerPid = (int)Number(value) },
                "Uid" => status with { Uids = [.. Numbers(value).Select(number => (uint)number)] },
                "Gid" => status with { Gids = [.. Numbers(value).Select(number => (uint)number)] },
                "NSpid" => status with { NamespacePids = [.. Numbers(value).Select(number => (int)number)] },
                "SigPnd" or "ShdPnd" => status with { IsKillPending = status.IsKillPending || (Bits(value) & KillBit) != 0 },
                "CapEff" => status with { EffectiveCapabilities = Bits(value), AllCapabilities = status.AllCapabilities | Bits(value) },
                "CapPrm" or "CapInh" => status with { AllCapabilities = status.AllCapabilities | Bits(value) },
                "VmSize" => status with { VirtualBytes = (ulong)Number(value.Split(' ')[0]) * 1024 },
                _ => status,
            };
        }

        return status;
    }

    private static ulong Bits(string hexadecimal) =>
        ulong.TryParse(hexadecimal, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong bits) ? bits : 0;

    private static long Number(string text) =>
        long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) && number <= uint.MaxValue * 4096L
            ? number
            : 0;

    private static IEnumerable<long> Numbers(string text) =>
        text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(Number);
}
