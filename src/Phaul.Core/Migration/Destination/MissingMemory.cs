// Which memory of a lost program never arrived, for whoever looks at what is left of it.

using System.Globalization;
using Phaul.Memory;

namespace Phaul;

/// <summary>Writes it beside the images.</summary>
internal static class MissingMemory
{
    private const string Name = "missing-memory.txt";

    // Memory is kept in parts of 4 MiB at most
    private static List<LackingMemory> Joined(IReadOnlyList<LackingMemory> lacking)
    {
        var joined = new List<LackingMemory>();
        foreach (var part in lacking)
        {
            if (joined.Count > 0 && joined[^1].Pid == part.Pid && joined[^1].Range.End == part.Range.Start)
                joined[^1] = part with { Range = joined[^1].Range with { End = part.Range.End } };
            else
                joined.Add(part);
        }

        return joined;
    }

    /// <summary>Writes a line for each range: the pid in the images, and its addresses as in /proc/PID/maps.</summary>
    /// <returns>The file; null if nothing is known or it cannot be written.</returns>
    public static string? TryWrite(string directory, IReadOnlyList<LackingMemory> lacking)
    {
        if (lacking.Count == 0)
            return null;
        var path = Path.Combine(directory, Name);
        try
        {
            File.WriteAllLines(
                path,
                Joined(lacking).Select(part => string.Create(CultureInfo.InvariantCulture, $"{part.Pid} {part.Range.Start:x}-{part.Range.End:x}")));
            return path;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
