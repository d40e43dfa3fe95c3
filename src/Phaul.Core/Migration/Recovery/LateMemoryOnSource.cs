// Whether images are whole: those of a dump whose memory was to follow are not.

using Phaul.Images.Pages;

namespace Phaul;

/// <summary>Looks at the images themselves: restored without their memory, a program would run with other memory's contents.</summary>
internal static class LateMemoryOnSource
{
    /// <summary>Whether a task's pagemap there has pages that are in no image.</summary>
    /// <exception cref="PhaulException">RestoreFailed: an image is damaged.</exception>
    public static bool IsNeededFor(string imagesDirectory) => Directory.Exists(imagesDirectory)
        && PagemapImage.OwnersIn(imagesDirectory).Any(owner =>
            PagemapImage.Read(Path.Combine(imagesDirectory, PagemapImage.NameOf(owner))).Ranges.Any(range => range.Flags == PagemapFlags.Lazy));
}
