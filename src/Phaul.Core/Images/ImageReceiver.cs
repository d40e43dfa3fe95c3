// Receives a sequence of images into a directory. The peer chooses names among plain image names, and nothing else.

using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Win32.SafeHandles;
using Phaul.Images.Wire;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Images;

/// <summary>The receiving side of the images channel.</summary>
public static class ImageReceiver
{
    private const int MaxItemLength = 4096;
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private const UnixFileMode Others = UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    /// <summary>
    /// Receives one sequence. Each image becomes a new file of mode 0600; sizes and SHA-256 are verified. After a failure, what was
    /// complete is left in the directory, and the channel is in the middle of a sequence: end the connection.
    /// </summary>
    /// <param name="directory">An existing directory of mode 0700.</param>
    /// <param name="images">The channel.</param>
    /// <param name="limits">What the peer may make us write.</param>
    /// <param name="durable">Whether files and directory are on disk, not only in memory, when this returns.</param>
    /// <param name="progress">Told the bytes of content received so far.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">ImageTransferFailed, or the connection's fault.</exception>
    public static async Task<ImageTotals> ReceiveAsync(
        string directory,
        PhaulChannel images,
        ImageLimits? limits = null,
        bool durable = false,
        IProgress<long>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentNullException.ThrowIfNull(images);
        limits ??= new ImageLimits();
        CheckDirectory(directory);
        using var reader = new SequenceReader(images);
        int count = 0;
        long total = 0;
        while (true)
        {
            ImageItem item = await ReceiveItemAsync(reader, cancellationToken).ConfigureAwait(false);
            if (item.ItemCase == ImageItem.ItemOneofCase.Manifest)
            {
                await CheckEndAsync(reader, item.Manifest, count, total, cancellationToken).ConfigureAwait(false);
                if (durable)
                    await SyncDirectoryAsync(directory, cancellationToken).ConfigureAwait(false);
                return new ImageTotals(count, total);
            }

            if (item.ItemCase != ImageItem.ItemOneofCase.Image)
                throw Failed("The peer sent an image item of an unknown kind.");
            ImageName name = ImageName.Parse(item.Image.Name);
            CheckLimits(directory, name, item.Image.Size, count, total, limits);
            long size = (long)item.Image.Size;
            await ReceiveImageAsync(directory, name, size, reader, total, durable, progress, cancellationToken).ConfigureAwait(false);
            count++;
            total += size;
        }
    }

    private static void CheckDirectory(string directory)
    {
        var info = new DirectoryInfo(directory);
        if (!info.Exists || info.LinkTarget is not null)
            throw Failed($"{directory} is no directory to put images into.");
        if ((info.UnixFileMode & Others) != 0)
            throw Failed($"{directory} can be used by others than its owner, so it is no place for images.");
    }

    private static async Task<ImageItem> ReceiveItemAsync(SequenceReader reader, CancellationToken cancellationToken)
    {
        var prefix = new byte[sizeof(uint)];
        if (!await reader.ReadExactlyAsync(prefix, cancellationToken).ConfigureAwait(false))
            throw Failed("The images ended without the manifest.");
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(prefix);
        if (length > MaxItemLength)
            throw Failed($"The peer sent an image item of {length} bytes, where {MaxItemLength} are allowed.");
        var message = new byte[length];
        if (!await reader.ReadExactlyAsync(message, cancellationToken).ConfigureAwait(false))
            throw Failed("The images ended in the middle of an item.");
        try
        {
            return ImageItem.Parser.ParseFrom(message);
        }
        catch (InvalidProtocolBufferException exception)
        {
            throw Failed("The peer sent an image item that cannot be read.", exception);
        }
    }

    private static void CheckLimits(string directory, ImageName name, ulong size, int count, long total, ImageLimits limits)
    {
        if (count >= limits.MaxFiles)
            throw Failed($"The peer sends more than {limits.MaxFiles} images.");
        if (size > (ulong)(limits.MaxTotalBytes - total))
            throw Failed($"The peer sends more than {limits.MaxTotalBytes} bytes of images: {name} has {size} after {total}.");
        long free = FileSystemSpace.AvailableBytes(directory);
        if ((long)size > free - limits.MinFreeBytes)
        {
            throw new PhaulException(
                PhaulErrorId.ImageTransferFailed,
                $"There is too little room for {name} ({size} bytes) in {directory}: {free} bytes are free, "
                + $"and {limits.MinFreeBytes} must stay so.")
            {
                RecommendedAction = "Free space there, or choose another work directory.",
            };
        }
    }

    private static async Task ReceiveImageAsync(
        string directory,
        ImageName name,
        long size,
        SequenceReader reader,
        long before,
        bool durable,
        IProgress<long>? progress,
        CancellationToken cancellationToken)
    {
        string path = Path.Combine(directory, name.ToString());
        using FileStream stream = Create(path, name);
        SafeFileHandle file = stream.SafeFileHandle;
        bool complete = false;
        try
        {
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            long offset = 0;
            while (offset < size)
            {
                ReadOnlyMemory<byte> some = await reader.ReadSomeAsync(size - offset, cancellationToken).ConfigureAwait(false);
                if (some.IsEmpty)
                    throw Failed($"The images ended in the middle of {name}: {offset} of {size} bytes.");
                await RandomAccess.WriteAsync(file, some, offset, cancellationToken).ConfigureAwait(false);
                hash.AppendData(some.Span);
                offset += some.Length;
                progress?.Report(before + offset);
            }

            var expected = new byte[SHA256.HashSizeInBytes];
            if (!await reader.ReadExactlyAsync(expected, cancellationToken).ConfigureAwait(false))
                throw Failed($"The images ended before the hash of {name}.");
            if (!hash.GetHashAndReset().AsSpan().SequenceEqual(expected))
                throw Failed($"The image {name} arrived with another content than was sent: its SHA-256 differs.");
            if (durable)
                await Task.Run(() => DirectoryDescriptor.Sync(file), cancellationToken).ConfigureAwait(false);
            complete = true;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NativeException)
        {
            throw Failed($"The image {path} could not be written: {exception.Message}", exception);
        }
        finally
        {
            // An image that is not whole must not be taken for one.
            if (!complete)
                File.Delete(path);
        }
    }

    private static FileStream Create(string path, ImageName name)
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew, // O_CREAT | O_EXCL: an existing name is an error, and a link is not followed.
            Access = FileAccess.Write,
            Share = FileShare.None,
            BufferSize = 0,
            UnixCreateMode = OwnerFile,
        };
        try
        {
            return new FileStream(path, options);
        }
        catch (IOException exception) when (File.Exists(path) || new FileInfo(path).LinkTarget is not null)
        {
            throw Failed($"The peer sent {name}, which exists already.", exception);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Failed($"The image {path} could not be made: {exception.Message}", exception);
        }
    }

    private static async Task CheckEndAsync(
        SequenceReader reader, ImageManifest manifest, int count, long total, CancellationToken cancellationToken)
    {
        if (manifest.Count != count || manifest.TotalBytes != (ulong)total)
            throw Failed(
                $"The manifest names {manifest.Count} images of {manifest.TotalBytes} bytes, but {count} of {total} bytes arrived.");
        if (!(await reader.ReadSomeAsync(1, cancellationToken).ConfigureAwait(false)).IsEmpty)
            throw Failed("The peer sent more after the manifest of the images.");
    }

    private static async Task SyncDirectoryAsync(string directory, CancellationToken cancellationToken)
    {
        try
        {
            await Task.Run(() => DirectoryDescriptor.Sync(directory), cancellationToken).ConfigureAwait(false);
        }
        catch (NativeException exception)
        {
            throw Failed($"The directory {directory} could not be brought to disk: {exception.Message}", exception);
        }
    }

    private static PhaulException Failed(string message, Exception? cause = null) => new(PhaulErrorId.ImageTransferFailed, message, cause);
}
