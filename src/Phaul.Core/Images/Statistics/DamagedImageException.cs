// An image that is not what it should be.
namespace Phaul.Images;

/// <summary>An image file is damaged, or of another kind than was expected.</summary>
public sealed class DamagedImageException : Exception
{
    /// <summary>Makes the exception for an image.</summary>
    public DamagedImageException(string image, string reason, Exception? inner = null)
        : base($"The image {image} is damaged: {reason}.", inner) => Image = image;

    /// <summary>The image's name.</summary>
    public string Image { get; }
}
