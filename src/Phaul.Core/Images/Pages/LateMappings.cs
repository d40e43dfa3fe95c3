// Which parts of a task's memory may be given to it while it runs already.

using System.Buffers.Binary;
using Google.Protobuf;
using Phaul.Images.Pages.Wire;

namespace Phaul.Images.Pages;

/// <summary>Reads a task's mm image.</summary>
internal static class LateMappings
{
    private const uint MmMagic = 0x57492820; // criu/include/magic.h
    private const int HeaderSize = 12;
    private const long LongestImage = 64 << 20;

    // mmap(2)
    private const uint Private = 0x02;
    private const uint Anonymous = 0x20;
    private const uint Locked = 0x2000;
    private const uint HugePages = 0x40000;

    // criu/include/image.h
    private const uint Vsyscall = 1 << 2;
    private const uint Vdso = 1 << 3;
    private const uint Vvar = 1 << 12;

    /// <summary>A mapping; the end is the first address behind it.</summary>
    public readonly record struct Mapping(ulong Start, ulong End);

    /// <summary>
    /// The mappings that a restore registers with userfaultfd, ascending: private anonymous memory, neither locked nor of huge pages
    /// (CRIU's vma_entry_can_be_lazy). Whatever a pagemap says, no other page may be late: nobody would deliver it.
    /// </summary>
    /// <exception cref="PhaulException">RestoreFailed: the image is absent or damaged.</exception>
    public static IReadOnlyList<Mapping> Read(string directory, ulong pid)
    {
        string path = PathOf(directory, pid);
        try
        {
            if (new FileInfo(path).Length > LongestImage)
                throw Damaged(path, "it is too long");
            ReadOnlySpan<byte> image = File.ReadAllBytes(path);
            if (image.Length < HeaderSize || BinaryPrimitives.ReadUInt32LittleEndian(image) != PagemapImage.CommonMagic
                || BinaryPrimitives.ReadUInt32LittleEndian(image[4..]) != MmMagic)
            {
                throw Damaged(path, "it does not begin as one");
            }

            uint length = BinaryPrimitives.ReadUInt32LittleEndian(image[8..]);
            if (length > image.Length - HeaderSize)
                throw Damaged(path, "it is cut short");
            var late = MmEntry.Parser.ParseFrom(image.Slice(HeaderSize, (int)length)).Vmas
                .Where(vma => MayBeLate(vma.Flags, vma.Status)).Select(vma => new Mapping(vma.Start, vma.End)).ToArray();
            for (int i = 0; i < late.Length; i++)
            {
                if (late[i].End <= late[i].Start || (i > 0 && late[i].Start < late[i - 1].End))
                    throw Damaged(path, "its mappings are in disorder");
            }

            return late;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidProtocolBufferException)
        {
            throw Damaged(path, exception.Message, exception);
        }
    }

    /// <summary>Writes an image that says nothing but this.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public static void Write(string directory, ulong pid, IEnumerable<Mapping> mappings)
    {
        var entry = new MmEntry();
        entry.Vmas.AddRange(mappings.Select(mapping => new VmaEntry { Start = mapping.Start, End = mapping.End, Flags = Private | Anonymous, Status = 0 }));
        var image = new byte[HeaderSize + entry.CalculateSize()];
        BinaryPrimitives.WriteUInt32LittleEndian(image, PagemapImage.CommonMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(4), MmMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(8), (uint)entry.CalculateSize());
        entry.WriteTo(image.AsSpan(HeaderSize));
        File.WriteAllBytes(PathOf(directory, pid), image);
    }

    private static string PathOf(string directory, ulong pid) => Path.Combine(directory, $"mm-{pid}.img");

    private static bool MayBeLate(uint flags, uint status) =>
        (flags & (Private | Anonymous | Locked | HugePages)) == (Private | Anonymous) && (status & (Vsyscall | Vdso | Vvar)) == 0;

    private static PhaulException Damaged(string path, string why, Exception? cause = null) =>
        new(PhaulErrorId.RestoreFailed, $"The image {path} cannot be used: {why}", cause);
}
