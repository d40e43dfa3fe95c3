// The end of a log that CRIU wrote for a request.
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Phaul.Criu.Rpc;

namespace Phaul.Criu;

internal static class CriuLog
{
    private const string DefaultName = "criu.log";
    private const int LongestRead = 64 * 1024;
    private const int LinesLookedAt = 200;
    private const int LinesKept = 20;
    private const int LongestLine = 1000;
    private const string ErrorMark = "Error (";

    // Logged by every CRIU without CAP_SYS_RESOURCE, which goes on all the same: as the first error it would pass for the cause.
    private const string HarmlessError = "Can't setup RLIMIT_NOFILE";

    /// <summary>The lines that tell most: errors among the last 200 lines first, then the last others; at most 20.</summary>
    /// <returns>Nothing if the request has no log or it cannot be read.</returns>
    public static IReadOnlyList<string> ReadTail(CriuOpts? options)
    {
        var name = options is { HasLogFile: true } ? options.LogFile : DefaultName;
        if (options is null || DirectoryOf(options) is not { } directory || name.Contains('/')) return [];
        try
        {
            const FileShare anything = FileShare.ReadWrite | FileShare.Delete;
            using var file = File.OpenHandle(Path.Combine(directory, name), FileMode.Open, FileAccess.Read, anything);
            var length = RandomAccess.GetLength(file);
            var bytes = new byte[(int)Math.Min(length, LongestRead)];
            var read = RandomAccess.Read(file, bytes, length - bytes.Length);
            return Select(Encoding.UTF8.GetString(bytes, 0, read), isCut: length > bytes.Length);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return [];
        }
    }

    /// <summary>Chooses from text the lines that <see cref="ReadTail"/> gives.</summary>
    /// <param name="isCut">Whether the first line is only the end of one.</param>
    public static IReadOnlyList<string> Select(string text, bool isCut = false)
    {
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Skip(isCut ? 1 : 0)
            .Where(line => !IsHarmless(line))
            .TakeLast(LinesLookedAt).ToLookup(line => line.Contains(ErrorMark, StringComparison.Ordinal));
        var errors = lines[true].TakeLast(LinesKept).ToList();
        return [.. errors.Select(Shown), .. lines[false].TakeLast(LinesKept - errors.Count).Select(Shown)];
    }

    /// <summary>Whether an error is none; CRIU gives the first one as the cause when it fails, whatever it was.</summary>
    public static bool IsHarmless(string error) => error.Contains(HarmlessError, StringComparison.Ordinal);

    /// <summary>A line as it may be shown: names of programs and files are in it, which may hold whatever their owner likes.</summary>
    public static string Shown(string line)
    {
        var text = line.Length > LongestLine ? string.Concat(line.AsSpan(0, LongestLine), "…") : line;
        return string.Concat(text.Select(character => char.IsControl(character) && character != '\t' ? ' ' : character));
    }

    private static string? DirectoryOf(CriuOpts options) =>
        options.HasWorkDirFd ? OfDescriptor(options.WorkDirFd)
        : options is { HasImagesDirFd: true, ImagesDirFd: >= 0 } ? OfDescriptor(options.ImagesDirFd)
        : options.HasImagesDir ? options.ImagesDir
        : null;

    private static string OfDescriptor(int descriptor) => $"/proc/self/fd/{descriptor.ToString(CultureInfo.InvariantCulture)}";
}
