// Sends the images of a directory as one sequence. Small images share frames: a program's images leave in a few writes.

using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf;
using Phaul.Images.Wire;
using Phaul.Transport;

namespace Phaul.Images;

/// <summary>The sending side of the images channel.</summary>
public static class ImageSender
{
    /// <summary>
    /// Sends every image in a directory. Other files (logs), directories and links (<c>parent</c>) are left out.
    /// </summary>
    /// <param name="directory">The image directory.</param>
    /// <param name="images">The channel. After a failure it is in the middle of a sequence: end the connection.</param>
    /// <param name="include">Which images; null for all but page data (<see cref="ImageName.IsPages"/>).</param>
    /// <param name="progress">Told the bytes of content sent so far, after each frame or so.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">ImageTransferFailed: an image could not be read, or changed meanwhile; or the
    /// connection's fault.</exception>
    public static async Task<ImageTotals> SendAsync(
        string directory,
        PhaulChannel images,
        Func<ImageName, bool>? include = null,
        IProgress<long>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        ArgumentNullException.ThrowIfNull(images);
        include ??= static name => !name.IsPages;
        int count = 0;
        long total = 0;
        using var writer = new SequenceWriter(images);
        foreach (ImageName name in List(directory).Where(include))
        {
            total += await SendImageAsync(
                Path.Combine(directory, name.ToString()), name, writer, total, progress, cancellationToken).ConfigureAwait(false);
            count++;
        }

        var manifest = new ImageManifest { Count = (uint)count, TotalBytes = (ulong)total };
        await SendItemAsync(writer, new ImageItem { Manifest = manifest }, cancellationToken).ConfigureAwait(false);
        await writer.EndAsync(cancellationToken).ConfigureAwait(false);
        progress?.Report(total);
        return new ImageTotals(count, total);
    }

    private static List<ImageName> List(string directory)
    {
        try
        {
            var names = new List<ImageName>();
            foreach (FileInfo file in new DirectoryInfo(directory).EnumerateFiles())
            {
                if (file.LinkTarget is null && ImageName.TryParse(file.Name, out ImageName name))
                    names.Add(name);
            }

            names.Sort(static (one, other) => string.CompareOrdinal(one.ToString(), other.ToString()));
            return names;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Failed($"The images in {directory} could not be listed: {exception.Message}", exception);
        }
    }

    private static async Task<long> SendImageAsync(
        string path, ImageName name, SequenceWriter writer, long before, IProgress<long>? progress, CancellationToken cancellationToken)
    {
        try
        {
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, FileOptions.SequentialScan);
            long size = RandomAccess.GetLength(file);
            var header = new ImageHeader { Name = name.ToString(), Size = (ulong)size };
            await SendItemAsync(writer, new ImageItem { Image = header }, cancellationToken).ConfigureAwait(false);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            long offset = 0;
            while (offset < size)
            {
                Memory<byte> space = await writer.GetSpaceAsync(cancellationToken).ConfigureAwait(false);
                space = space[..(int)Math.Min(space.Length, size - offset)];
                int count = await RandomAccess.ReadAsync(file, space, offset, cancellationToken).ConfigureAwait(false);
                if (count == 0)
                    throw Failed($"The image {path} became smaller while it was sent: {offset} bytes instead of {size}.");
                hash.AppendData(space.Span[..count]);
                writer.Advance(count);
                offset += count;
                progress?.Report(before + offset);
            }

            if (RandomAccess.GetLength(file) is var now && now != size)
                throw Failed($"The image {path} changed its size while it was sent: {now} bytes instead of {size}.");
            await writer.WriteAsync(hash.GetHashAndReset(), cancellationToken).ConfigureAwait(false);
            return size;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw Failed($"The image {path} could not be read: {exception.Message}", exception);
        }
    }

    private static async Task SendItemAsync(SequenceWriter writer, ImageItem item, CancellationToken cancellationToken)
    {
        byte[] message = item.ToByteArray();
        var length = new byte[sizeof(uint)];
        BinaryPrimitives.WriteInt32LittleEndian(length, message.Length);
        await writer.WriteAsync(length, cancellationToken).ConfigureAwait(false);
        await writer.WriteAsync(message, cancellationToken).ConfigureAwait(false);
    }

    private static PhaulException Failed(string message, Exception? cause = null) => new(PhaulErrorId.ImageTransferFailed, message, cause);
}
