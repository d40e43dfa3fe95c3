// Bounded, tolerant reading below /proc: processes end while they are looked at, and that is no error.

using System.Buffers;
using System.Globalization;
using System.Text;

namespace Phaul.Procfs;

/// <summary>One mounted procfs, or a made-up one in tests.</summary>
/// <param name="root">Where it is mounted.</param>
internal sealed class ProcFileSystem(string root = "/proc")
{
    /// <summary>The longest text that is read from one file; maps of a task with 65,530 mappings stay below it.</summary>
    public const int MaxTextBytes = 32 << 20;

    /// <summary>The one of this host.</summary>
    public static ProcFileSystem Host { get; } = new();

    /// <summary>Where it is mounted.</summary>
    public string Root { get; } = root;

    /// <summary>The path of an entry.</summary>
    public string PathOf(string relativePath) => $"{Root}/{relativePath}";

    /// <summary>The text of a file, or null if it is gone, unreadable, or longer than <see cref="MaxTextBytes"/>.</summary>
    public string? ReadText(string relativePath)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(8192);
        try
        {
            using var file = File.OpenHandle(PathOf(relativePath));
            int length = 0;
            while (true)
            {
                int read = RandomAccess.Read(file, buffer.AsSpan(length), length);
                if (read == 0) return Encoding.UTF8.GetString(buffer, 0, length);
                length += read;
                if (length < buffer.Length) continue;
                if (length >= MaxTextBytes) return null;
                byte[] larger = ArrayPool<byte>.Shared.Rent(buffer.Length * 2);
                buffer.AsSpan(0, length).CopyTo(larger);
                ArrayPool<byte>.Shared.Return(buffer);
                buffer = larger;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>
    /// What a symbolic link says, or null if it is gone or unreadable. Links such as <c>socket:[7]</c> lead nowhere and are fine.
    /// </summary>
    public string? ReadLink(string relativePath)
    {
        try
        {
            return new FileInfo(PathOf(relativePath)).LinkTarget;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The entries of a directory whose names are numbers (pids, tids, descriptors), in order; empty if it is gone.</summary>
    public IReadOnlyList<int> ReadNumbers(string relativePath)
    {
        var numbers = new List<int>();
        try
        {
            foreach (string entry in Directory.EnumerateFileSystemEntries(PathOf(relativePath)))
            {
                var name = Path.GetFileName(entry.AsSpan());
                if (int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int number)) numbers.Add(number);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Gone in the middle of the listing: what was seen is what there is.
        }

        numbers.Sort();
        return numbers;
    }
}
