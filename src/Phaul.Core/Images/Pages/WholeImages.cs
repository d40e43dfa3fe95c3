// A chain of images made into one that has no parents.

using Phaul.Native;

namespace Phaul.Images.Pages;

/// <summary>
/// For what CRIU cannot restore from a chain: with parents it maps every private mapping twice, and writable (criu/mem.c,
/// premap_priv_vmas), which a kernel refuses that does not overcommit where a program has reserved more address space than there is
/// memory. Every .NET program has.
/// </summary>
internal static class WholeImages
{
    private static readonly string[] Helps = ["Unable to map ANON_VMA", "Unable to reserve memory"];

    private const string ParentLink = "parent";
    private const string Name = "whole";

    /// <summary>Whether a restore failed for want of address space.</summary>
    /// <param name="criuLog">CRIU's last lines.</param>
    public static bool MayHelp(IEnumerable<string> criuLog) => criuLog.Any(line => Helps.Any(line.Contains));

    /// <summary>Makes it, beside the chain: that takes as long as copying the memory.</summary>
    /// <param name="imagesDirectory">The newest directory of the chain.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The directory; null: there is no chain.</returns>
    /// <exception cref="PhaulException">RestoreFailed or PageTransferFailed: an image cannot be used, or made, or there is no room.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static string? Make(string imagesDirectory, CancellationToken cancellationToken)
    {
        if (!Directory.Exists(Path.Combine(imagesDirectory, ParentLink)))
            return null;
        try
        {
            using var last = Load(imagesDirectory);
            var whole = Path.Combine(Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(imagesDirectory))!, Name);
            if (Directory.Exists(whole))
                Directory.Delete(whole, recursive: true);
            var (needed, free) = (last.Images.Sum(image => image.Pieces.Sum(piece => (long)piece.Pages * Environment.SystemPageSize)), FileSystemSpace.AvailableBytes(imagesDirectory));
            if (needed > free)
            {
                throw new PhaulException(
                    PhaulErrorId.RestoreFailed, $"to join the images with those before them takes {needed >> 20} MiB in {imagesDirectory}, where {free >> 20} MiB are free")
                {
                    RecommendedAction = "Free space there, name another work directory for the server, or set vm.overcommit_memory to 1 on the destination.",
                };
            }

            return PageStore.ComposeWhole(last, whole, cancellationToken).ImagesDirectory;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NativeException)
        {
            throw new PhaulException(
                PhaulErrorId.RestoreFailed, $"The images in {imagesDirectory} could not be joined with those before them: {exception.Message}", exception);
        }
    }

    private static ReceivedIteration Load(string directory)
    {
        var parent = Path.Combine(directory, ParentLink);
        using var before = Directory.Exists(parent) ? Load(Directory.ResolveLinkTarget(parent, returnFinalTarget: true)?.FullName ?? parent) : null;
        return ReceivedIteration.Load(directory, before);
    }
}
