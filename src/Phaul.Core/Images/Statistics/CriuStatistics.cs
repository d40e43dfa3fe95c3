// Reads CRIU's statistics images: two 32-bit magic numbers, a 32-bit length, one protobuf message.
using System.Buffers.Binary;
using Google.Protobuf;
using Phaul.Images.Entries;

namespace Phaul.Images;

/// <summary>Reads the statistics that CRIU leaves in its work directory.</summary>
public static class CriuStatistics
{
    /// <summary>The name of a dump's statistics.</summary>
    public const string DumpImage = "stats-dump";

    /// <summary>The name of a restore's statistics.</summary>
    public const string RestoreImage = "stats-restore";

    private const uint ServiceMagic = 0x55105940;
    private const uint StatisticsMagic = 0x57093306;
    private const int HeaderSize = 12;

    // A message with every field at its longest stays below 200 bytes; this leaves room for fields to come.
    private const int LongestImage = 64 * 1024;

    /// <summary>Reads the statistics of the last dump or pre-dump in a work directory.</summary>
    /// <exception cref="DamagedImageException">The image is damaged.</exception>
    /// <exception cref="IOException">It is absent or cannot be read.</exception>
    public static DumpStatistics ReadDump(string directory) => ParseDump(Read(directory, DumpImage));

    /// <summary>Reads the statistics of the last restore in a work directory.</summary>
    /// <exception cref="DamagedImageException">The image is damaged.</exception>
    /// <exception cref="IOException">It is absent or cannot be read.</exception>
    public static RestoreStatistics ReadRestore(string directory) => ParseRestore(Read(directory, RestoreImage));

    internal static DumpStatistics ParseDump(ReadOnlySpan<byte> image)
    {
        var entry = ParseEntry(image, DumpImage).Dump ?? throw new DamagedImageException(DumpImage, "it is not of a dump");
        return new DumpStatistics
        {
            FreezingTime = Time(entry.FreezingTime),
            FrozenTime = Time(entry.FrozenTime),
            MemoryDumpTime = Time(entry.MemdumpTime),
            MemoryWriteTime = Time(entry.MemwriteTime),
            IrmapResolveTime = Time(entry.IrmapResolve),
            PagesScanned = Count(entry.PagesScanned, DumpImage),
            PagesSkippedParent = Count(entry.PagesSkippedParent, DumpImage),
            PagesWritten = Count(entry.PagesWritten, DumpImage),
            PagesLazy = Count(entry.PagesLazy, DumpImage),
            PagePipes = Count(entry.PagePipes, DumpImage),
            PagePipeBuffers = Count(entry.PagePipeBufs, DumpImage),
            SharedPagesScanned = Count(entry.ShpagesScanned, DumpImage),
            SharedPagesSkippedParent = Count(entry.ShpagesSkippedParent, DumpImage),
            SharedPagesWritten = Count(entry.ShpagesWritten, DumpImage),
        };
    }

    internal static RestoreStatistics ParseRestore(ReadOnlySpan<byte> image)
    {
        var entry = ParseEntry(image, RestoreImage).Restore ?? throw new DamagedImageException(RestoreImage, "it is not of a restore");
        return new RestoreStatistics
        {
            ForkingTime = Time(entry.ForkingTime),
            RestoreTime = Time(entry.RestoreTime),
            PagesCompared = Count(entry.PagesCompared, RestoreImage),
            PagesSkippedCow = Count(entry.PagesSkippedCow, RestoreImage),
            PagesRestored = Count(entry.PagesRestored, RestoreImage),
        };
    }

    private static byte[] Read(string directory, string name)
    {
        using var file = File.OpenHandle(Path.Combine(directory, name));
        var buffer = new byte[LongestImage + 1];
        var length = 0;
        // One byte more than is allowed is asked for, so that the file's size, which may change, need not be trusted.
        while (length < buffer.Length && RandomAccess.Read(file, buffer.AsSpan(length), length) is > 0 and var read) length += read;
        return length <= LongestImage ? buffer[..length] : throw new DamagedImageException(name, $"it is longer than {LongestImage} bytes");
    }

    private static StatsEntry ParseEntry(ReadOnlySpan<byte> image, string name)
    {
        if (image.Length < HeaderSize) throw new DamagedImageException(name, "it is cut short");
        if (BinaryPrimitives.ReadUInt32LittleEndian(image) != ServiceMagic
            || BinaryPrimitives.ReadUInt32LittleEndian(image[4..]) != StatisticsMagic)
            throw new DamagedImageException(name, "it does not begin as statistics do");
        var length = BinaryPrimitives.ReadUInt32LittleEndian(image[8..]);
        if (length != image.Length - HeaderSize)
            throw new DamagedImageException(name, $"it should hold {length} bytes and holds {image.Length - HeaderSize}");
        try
        {
            var entry = StatsEntry.Parser.ParseFrom(image[HeaderSize..]);
            return entry.IsInitialized() ? entry : throw new DamagedImageException(name, "its message is incomplete");
        }
        catch (InvalidProtocolBufferException exception)
        {
            throw new DamagedImageException(name, "its message cannot be read", exception);
        }
    }

    private static TimeSpan Time(uint microseconds) => TimeSpan.FromMicroseconds(microseconds);

    // Small enough that sums cannot overflow.
    private static long Count(ulong value, string name) =>
        value <= long.MaxValue / 4 ? (long)value : throw new DamagedImageException(name, $"{value} is no number of pages");
}
