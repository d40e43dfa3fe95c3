// What makes a process the same one: pid, start time, and the boot that both belong to.
using System.Globalization;

namespace Phaul.Native;

internal static class ProcessIdentity
{
    private const string BootIdPath = "/proc/sys/kernel/random/boot_id";

    /// <summary>The identity of the running kernel's boot.</summary>
    public static Guid BootId() => Guid.Parse(File.ReadAllText(BootIdPath).AsSpan().Trim(), CultureInfo.InvariantCulture);

    /// <summary>When a process started, in clock ticks since boot; null if there is no such process.</summary>
    public static ulong? StartTime(int pid)
    {
        try
        {
            return ParseStartTime(File.ReadAllText($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}/stat"));
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (IOException) when (!Directory.Exists($"/proc/{pid.ToString(CultureInfo.InvariantCulture)}"))
        {
            return null; // It ended between open and read (ESRCH).
        }
    }

    /// <summary>Reads field 22 of a line of /proc/PID/stat. The name (field 2) may hold spaces, parentheses and line ends.</summary>
    /// <exception cref="FormatException">It is no such line.</exception>
    public static ulong ParseStartTime(string stat)
    {
        const int startTime = 22;
        const int firstAfterName = 3;
        var end = stat.LastIndexOf(')');
        var fields = end < 0 ? [] : stat[(end + 1)..].Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        if (fields.Length <= startTime - firstAfterName
            || !ulong.TryParse(fields[startTime - firstAfterName], NumberStyles.None, CultureInfo.InvariantCulture, out var ticks))
            throw new FormatException("Not the stat line of a process.");
        return ticks;
    }
}
