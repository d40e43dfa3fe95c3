// What one iteration has brought: the pages of each owner, in one image directory.

namespace Phaul.Images.Pages;

/// <summary>The page images of one directory. Not for several threads.</summary>
internal sealed class ReceivedIteration(string directory) : IDisposable
{
    private readonly Dictionary<PageOwner, PageImage> _images = [];

    /// <summary>Where they are.</summary>
    public string Directory { get; } = directory;

    /// <summary>How many owners have pages here.</summary>
    public int Count => _images.Count;

    /// <summary>All of them.</summary>
    public IEnumerable<PageImage> Images => _images.Values;

    /// <summary>Whether an owner has pages here.</summary>
    public bool Has(PageOwner owner) => _images.ContainsKey(owner);

    /// <summary>An owner's pages; null if it has none here.</summary>
    public PageImage? Find(PageOwner owner) => _images.GetValueOrDefault(owner);

    /// <summary>Makes an owner's images.</summary>
    /// <exception cref="IOException">They cannot be made.</exception>
    /// <exception cref="PhaulException">PageTransferFailed: there are some already.</exception>
    public PageImage Open(PageOwner owner, ReceivedIteration? parent)
    {
        if (Has(owner))
            throw new PhaulException(PhaulErrorId.PageTransferFailed, $"CRIU on the source sent the pages of {owner} twice.");
        var image = new PageImage(Directory, owner, (uint)_images.Count + 1, parent?.Find(owner));
        _images.Add(owner, image);
        return image;
    }

    /// <summary>Takes up the images of a dump that came as files, because its lazy pages are on the source still.</summary>
    /// <exception cref="IOException">The directory cannot be read.</exception>
    /// <exception cref="PhaulException">RestoreFailed or PageTransferFailed: an image is damaged, or does not fit its parent.</exception>
    public static ReceivedIteration Load(string directory, ReceivedIteration? parent)
    {
        var iteration = new ReceivedIteration(directory);
        foreach (var owner in PagemapImage.OwnersIn(directory))
            iteration._images.Add(owner, PageImage.Load(directory, owner, parent?.Find(owner)));

        return iteration;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var image in _images.Values)
            image.Dispose();
    }
}
