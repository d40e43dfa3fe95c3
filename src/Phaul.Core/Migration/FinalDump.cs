// The final dump, for an IPhaulLocal that would rather not know CRIU's options.

using Phaul.Criu;
using Phaul.Images;
using Phaul.Native;

namespace Phaul;

/// <summary>The dump of <see cref="IPhaulLocal.DumpCopyRestoreAsync"/>, with the options that follow from the configuration.</summary>
public static class FinalDump
{
    /// <summary>
    /// Freezes and dumps the tree into the next image directory of <see cref="PhaulConfig.WorkDirectory"/>, its memory through
    /// <see cref="PhaulConfig.MemorySocket"/>, and has it killed once <paramref name="whileFrozen"/> has returned.
    /// </summary>
    /// <param name="criu">The source's CRIU, as given to the <see cref="IPhaulLocal"/>.</param>
    /// <param name="config">The configuration given with it.</param>
    /// <param name="lastClientImagesPath">The last iteration's image directory, empty if there was none.</param>
    /// <param name="whileFrozen">
    /// Called with the directory of the images when all is dumped and the other side has all pages; CRIU waits in <c>post-dump</c>
    /// (criu.org, "Action scripts"). What it throws resumes the tree.
    /// </param>
    /// <param name="cancellationToken">Resumes the tree, as long as <paramref name="whileFrozen"/> has not returned.</param>
    /// <exception cref="CriuException">CRIU failed; <see cref="CriuFailure.Refused"/>: the tree runs on. Otherwise look at it.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; the tree runs on.</exception>
    public static Task RunAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, Func<string, CancellationToken, Task> whileFrozen,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(criu);
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(lastClientImagesPath);
        ArgumentNullException.ThrowIfNull(whileFrozen);
        return RunAsync(
            criu, config, lastClientImagesPath,
            images => CriuNotifications.At(CriuNotificationKind.PostDump, (_, token) => whileFrozen(images, token)), cancellationToken);
    }

    /// <summary>The same for whoever listens to more of CRIU's notifications; <paramref name="notifications"/> is told the images' directory.</summary>
    /// <remarks>
    /// With <paramref name="memoryFollows"/> CRIU serves the lazy pages through <see cref="PhaulConfig.LateSocket"/> once <c>post-dump</c> was
    /// acknowledged and <c>status-ready</c> told, until it is asked to end or the socket is closed; then it resumes what is left of the tree.
    /// </remarks>
    internal static async Task RunAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, Func<string, ICriuNotifications> notifications,
        CancellationToken cancellationToken, bool memoryFollows = false)
    {
        var images = ImageChain.Continue(config.WorkDirectory).OpenNext();
        using var directory = DirectoryDescriptor.Open(images.Path);
        var parent = lastClientImagesPath.Length > 0 ? images.Parent : null;
        var options = memoryFollows
            ? DumpRequest.ForLateDump(config, criu, directory, parent)
            : DumpRequest.ForDump(config, criu, directory, parent);
        await criu.DumpAsync(options, notifications(images.Path), cancellationToken).ConfigureAwait(false);
    }
}
