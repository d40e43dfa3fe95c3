// The name of an image, known to be a plain file name of CRIU's: nothing else that a peer sends becomes a path.

using System.Diagnostics.CodeAnalysis;

namespace Phaul.Images;

/// <summary>
/// A plain image file name: letters, digits, '.', '_' and '-', at most 128 of them, not beginning with a dot, ending with
/// <c>.img</c> or one of the few names without it (<c>stats-dump</c>, <c>stats-restore</c>, <c>irmap-cache</c>, <c>descriptors.json</c>).
/// </summary>
public readonly record struct ImageName
{
    /// <summary>The most characters of a name.</summary>
    public const int MaxLength = 128;

    private const string Extension = ".img";

    // CRIU's own service files, and what runc writes beside the images and reads back.
    private static readonly HashSet<string> WithoutExtension = ["stats-dump", "stats-restore", "irmap-cache", "descriptors.json"];

    private readonly string? _value;

    private ImageName(string value) => _value = value;

    /// <summary>Whether this is page data (<c>pages-*.img</c>), which normally travels on the pages channel.</summary>
    public bool IsPages => ToString().StartsWith("pages-", StringComparison.Ordinal);

    /// <summary>Whether this is the map of page data (<c>pagemap-*.img</c>).</summary>
    public bool IsPagemap => ToString().StartsWith("pagemap-", StringComparison.Ordinal);

    /// <summary>Checks a name.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out ImageName name)
    {
        name = default;
        if (text is null || text.Length is 0 or > MaxLength || text[0] == '.')
            return false;
        foreach (char character in text)
        {
            if (!char.IsAsciiLetterOrDigit(character) && character is not ('.' or '_' or '-'))
                return false;
        }

        if (!WithoutExtension.Contains(text) && (!text.EndsWith(Extension, StringComparison.Ordinal) || text.Length == Extension.Length))
            return false;
        name = new ImageName(text);
        return true;
    }

    /// <summary>Checks a name.</summary>
    /// <exception cref="PhaulException">ImageTransferFailed: it is not a plain image name.</exception>
    public static ImageName Parse(string text) => TryParse(text, out ImageName name)
        ? name
        : throw new PhaulException(
            PhaulErrorId.ImageTransferFailed, $"'{Transport.HelloExchange.Printable(text, 200)}' is not the plain name of a CRIU image.");

    /// <summary>The name itself.</summary>
    public override string ToString() => _value ?? throw new InvalidOperationException("An image name that was never parsed.");
}
