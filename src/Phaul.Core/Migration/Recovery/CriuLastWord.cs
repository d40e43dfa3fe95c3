// What CRIU's own logs say of the moment in which whoever drove it died: evidence where nobody is left to ask.

using Phaul.Images;

namespace Phaul;

/// <summary>Reads the logs of dumps and restores. They are in the images' directories, which are kept until a migration is settled.</summary>
internal static class CriuLastWord
{
    /// <summary>
    /// Whether a dump ended by killing the tree: true, CRIU began to; false, it let the tree go; null, its log does not tell, or
    /// is gone.
    /// </summary>
    /// <param name="workDirectory">The source's work directory.</param>
    public static bool? OfDump(string? workDirectory) =>
        // The last step of a dump, with what is done to the tasks: 1 resumed, 2 killed (compel's task states).
        workDirectory is not null && Directory.Exists(workDirectory) && ImageChain.Continue(workDirectory).Last is { } images
            ? Last(Path.Combine(images.Path, DumpRequest.DumpLog), yes: "Unfreezing tasks into 2", no: "Unfreezing tasks into 1")
            : null;

    /// <summary>
    /// Whether a restore ended by letting the tree run: true, it did; false, CRIU gave up and killed it before; null, its log does
    /// not tell, or is gone.
    /// </summary>
    /// <param name="imagesDirectory">The directory that was restored from.</param>
    public static bool? OfRestore(string imagesDirectory) =>
        Last(Path.Combine(imagesDirectory, RestoreRequest.RestoreLog), yes: "Tasks resumed", no: "Restoring FAILED");

    private static bool? Last(string log, string yes, string no)
    {
        try
        {
            bool? last = null;
            foreach (var line in File.ReadLines(log))
            {
                if (line.Contains(yes, StringComparison.Ordinal))
                    last = true;
                else if (last is null && line.Contains(no, StringComparison.Ordinal))
                    last = false;
            }

            return last;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
