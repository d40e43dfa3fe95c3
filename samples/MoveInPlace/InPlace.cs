// The last step of a migration within one machine: what an engine of your own looks like.

using Phaul;
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace MoveInPlace;

/// <summary>
/// Dumps the program for the last time, copies the images, and restores it from the server's. On one machine the pid is free only
/// when the program is dead, so a restore that fails leaves it in its images. Between two hosts it can be restored and held in
/// post-restore before post-dump is acknowledged, so that it never is: that is how Phaul itself does it.
/// </summary>
public sealed class InPlace(PhaulServer server) : IPhaulLocal
{
    /// <inheritdoc/>
    public async Task DumpCopyRestoreAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default)
    {
        // Until this function returns, the program is frozen, and whatever goes wrong resumes it.
        await FinalDump.RunAsync(
            criu, config, lastClientImagesPath,
            async (images, token) =>
            {
                foreach (var image in Directory.EnumerateFiles(images, "*.img"))
                    File.Copy(image, Path.Combine(server.LastImagesDirectory, Path.GetFileName(image)));
                // The page server writes what it buffers when it ends
                await server.StopIterationAsync(token);
            },
            cancellationToken);

        using var received = DirectoryDescriptor.Open(server.LastImagesDirectory);
        await server.Criu.RestoreAsync(
            new CriuOpts { ImagesDirFd = DirectoryDescriptor.Number(received), LogFile = "restore.log" },
            cancellationToken: CancellationToken.None);
    }
}
