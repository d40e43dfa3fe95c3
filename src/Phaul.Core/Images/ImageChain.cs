// The image directories of one migration: 0, 1, 2, ..., each the parent of the next.

using System.Globalization;

namespace Phaul.Images;

/// <summary>One directory of a chain.</summary>
/// <param name="Index">Counts from 0.</param>
/// <param name="Path">The absolute path.</param>
/// <param name="Parent">The previous directory as seen from this one, for CRIU's <c>parent_img</c>; null for the first.</param>
public sealed record ImageDirectory(int Index, string Path, string? Parent)
{
    /// <summary>Makes the link by which CRIU finds the parent's images; whoever lets CRIU write here gives it <c>parent_img</c> instead.</summary>
    /// <exception cref="PhaulException">ImageTransferFailed: it cannot be made.</exception>
    internal void LinkParent()
    {
        try
        {
            File.CreateSymbolicLink(System.IO.Path.Combine(Path, "parent"), Parent!);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new PhaulException(
                PhaulErrorId.ImageTransferFailed, $"The link to the parent of {Path} could not be made: {exception.Message}", exception);
        }
    }
}

/// <summary>A chain of image directories, the same on both hosts.</summary>
public sealed class ImageChain
{
    private const UnixFileMode OwnerDirectory = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly List<ImageDirectory> _directories = [];

    /// <summary>Makes an empty chain; nothing is created yet.</summary>
    /// <param name="workDirectory">An existing directory in which no numbered directories are.</param>
    public ImageChain(string workDirectory)
    {
        ArgumentException.ThrowIfNullOrEmpty(workDirectory);
        WorkDirectory = Path.GetFullPath(workDirectory);
    }

    /// <summary>Takes up the chain that somebody else began in a work directory.</summary>
    public static ImageChain Continue(string workDirectory)
    {
        var chain = new ImageChain(workDirectory);
        while (Directory.Exists(chain.PathOf(chain.Count)))
            chain._directories.Add(chain.At(chain.Count));
        return chain;
    }

    /// <summary>Where the directories are.</summary>
    public string WorkDirectory { get; }

    /// <summary>How many there are.</summary>
    public int Count => _directories.Count;

    /// <summary>The newest; null if there is none yet.</summary>
    public ImageDirectory? Last => _directories.Count > 0 ? _directories[^1] : null;

    /// <summary>All of them, oldest first.</summary>
    public IReadOnlyList<ImageDirectory> Directories => _directories;

    /// <summary>Makes the next directory, mode 0700.</summary>
    /// <exception cref="PhaulException">ImageTransferFailed: it exists already, or cannot be made.</exception>
    public ImageDirectory OpenNext()
    {
        int index = _directories.Count;
        string path = PathOf(index);
        try
        {
            if (Path.Exists(path) || new FileInfo(path).LinkTarget is not null)
                throw new PhaulException(PhaulErrorId.ImageTransferFailed, $"The image directory {path} exists already.");
            Directory.CreateDirectory(path, OwnerDirectory);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new PhaulException(
                PhaulErrorId.ImageTransferFailed, $"The image directory {path} could not be made: {exception.Message}", exception);
        }

        var directory = At(index);
        _directories.Add(directory);
        return directory;
    }

    /// <summary>Removes the chain's directories with all that is in them, newest first. Links in them are removed, not followed.</summary>
    /// <exception cref="PhaulException">ImageTransferFailed: something could not be removed.</exception>
    public async Task RemoveAsync(CancellationToken cancellationToken = default)
    {
        while (Last is { } last)
        {
            try
            {
                // Gigabytes may be freed here, which takes the kernel a while.
                await Task.Run(() => Directory.Delete(last.Path, recursive: true), cancellationToken).ConfigureAwait(false);
            }
            catch (DirectoryNotFoundException)
            {
                // Somebody removed it: that was the aim.
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                string message = $"The image directory {last.Path} could not be removed: {exception.Message}";
                throw new PhaulException(PhaulErrorId.ImageTransferFailed, message, exception);
            }

            _directories.RemoveAt(_directories.Count - 1);
        }
    }

    private string PathOf(int index) => Path.Combine(WorkDirectory, index.ToString(CultureInfo.InvariantCulture));

    private ImageDirectory At(int index) =>
        new(index, PathOf(index), index > 0 ? "../" + (index - 1).ToString(CultureInfo.InvariantCulture) : null);
}
