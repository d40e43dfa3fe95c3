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
    private const string ParentLink = "parent";
    private const string Name = "whole";

    /// <summary>Makes it, beside the chain: that takes as long as copying the memory.</summary>
    /// <param name="imagesDirectory">The newest directory of the chain.</param>
    /// <returns>The directory; null: there is no chain.</returns>
    /// <exception cref="PhaulException">RestoreFailed or PageTransferFailed: an image cannot be used, or made.</exception>
    public static string? Make(string imagesDirectory)
    {
        if (!Directory.Exists(Path.Combine(imagesDirectory, ParentLink)))
            return null;
        try
        {
            using var last = Load(imagesDirectory);
            var whole = Path.Combine(Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(imagesDirectory))!, Name);
            if (Directory.Exists(whole))
                Directory.Delete(whole, recursive: true);
            return PageStore.ComposeWhole(last, whole).ImagesDirectory;
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
