// Whether dirty memory is really tracked, seen by doing: a kernel may claim it, and something in between may not let CRIU have it.

using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Preflight;

/// <summary>A pre-dump of a process that was made for it, and that nobody misses.</summary>
internal static class TrackingTrial
{
    private static readonly TimeSpan RequestLimit = TimeSpan.FromSeconds(8);

    /// <summary>Why it does not work; null if it does.</summary>
    /// <exception cref="OperationCanceledException">It was cancelled; nothing is left of it.</exception>
    public static async Task<string?> RunAsync(string criuPath, CancellationToken cancellationToken)
    {
        DirectoryInfo? images = null;
        try
        {
            images = Directory.CreateTempSubdirectory("phaul-trial-");
            using var directory = DirectoryDescriptor.Open(images.FullName);
            using var nowhere = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
            // Longer than the trial: it is killed, and ends by itself if this process is.
            await using var process = ChildProcess.Start(new ProcessStart { File = "sleep", Arguments = ["60"], Output = nowhere, Error = nowhere });
            await using var criu = new CriuClient(new CriuClientOptions
            {
                CriuPath = criuPath,
                RequestTimeout = RequestLimit,
                EndTimeout = TimeSpan.FromSeconds(2),
            });
            var options = new CriuOpts
            {
                Pid = process.Pid,
                ImagesDirFd = (int)directory.DangerousGetHandle(),
                TrackMem = true,
                LogFile = DumpRequest.PreDumpLog,
            };
            await criu.SinglePreDumpAsync(options, null, cancellationToken).ConfigureAwait(false);
            return null;
        }
        catch (CriuException exception)
        {
            return string.Join(" | ", exception.LogTail.Take(2).Prepend(exception.Message));
        }
        catch (Exception exception) when (exception is NativeException or IOException or UnauthorizedAccessException)
        {
            return exception.Message;
        }
        finally
        {
            Remove(images);
        }
    }

    private static void Remove(DirectoryInfo? images)
    {
        try
        {
            images?.Delete(recursive: true);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // A few pages of nobody's memory stay in /tmp; that is no reason not to migrate.
        }
    }
}
