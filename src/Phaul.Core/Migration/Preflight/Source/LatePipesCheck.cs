// CRIU keeps the memory that stays behind in pipes: they must be had, and be large enough.

using System.Globalization;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>What CRIU needs on the source to serve pages after the dump (criu/page-pipe.c).</summary>
internal static class LatePipesCheck
{
    private const int SysResource = 24;

    // What F_SETPIPE_SZ makes of PIPE_MAX_SIZE pages (criu/include/page-pipe.h): one such pipe takes what is read of the others
    private const long PipeBytes = 4 << 20;
    private const long FilesOfItsOwn = 256;
    private const string OtherModes = "Or use another mode: StopAndCopy, or PreCopy where dirty memory is tracked.";

    /// <summary>Looks at the limits that CRIU will inherit. With CAP_SYS_RESOURCE none of them counts.</summary>
    /// <param name="proc">This host's.</param>
    /// <param name="own">This process's status.</param>
    /// <param name="mode">How memory will move.</param>
    /// <param name="memoryBytes">Of the tree.</param>
    public static IEnumerable<Finding> Run(ProcFileSystem proc, ProcStatus own, MigrationMode mode, long memoryBytes)
    {
        if (mode is not (MigrationMode.PostCopy or MigrationMode.Hybrid))
        {
            yield return new Finding(CheckVerdict.Skipped, $"{mode} does not need it.");
            yield break;
        }

        if ((own.EffectiveCapabilities >> SysResource & 1) != 0)
            yield break;
        if (Number(proc.ReadText("sys/fs/pipe-max-size")) is { } most && most < PipeBytes)
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"Phaul lacks CAP_SYS_RESOURCE, and pipes may have {most} bytes here (fs.pipe-max-size): CRIU needs pipes of {PipeBytes} to serve memory that stays behind.",
                $"On this host, until it boots again: sysctl -w fs.pipe-max-size={PipeBytes}. {OtherModes}");
        }

        // Two ends of each, in CRIU; rounded up, for no pipe is filled by two kinds of memory
        var files = (memoryBytes / PipeBytes * 2 * 5 / 4) + FilesOfItsOwn;
        if (OpenFiles(proc.ReadText("self/limits")) is { } limit && limit < files)
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"Phaul lacks CAP_SYS_RESOURCE, and may open {limit} files here: for {memoryBytes >> 20} MiB that stay behind CRIU needs about {files}.",
                $"Start Phaul with a higher limit (ulimit -n {files}, LimitNOFILE={files}). {OtherModes}");
        }
    }

    private static long? Number(string? text) =>
        long.TryParse(text?.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    // "Max open files            1024                 1048576              files": CRIU raises the first to the second
    private static long? OpenFiles(string? limits) => limits?.Split('\n')
        .Where(line => line.StartsWith("Max open files", StringComparison.Ordinal))
        .Select(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        .Select(words => words.Length > 4 ? Number(words[4]) : null)
        .FirstOrDefault();
}
