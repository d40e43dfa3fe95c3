// Statistics images: read right, and damage always told by the one exception.
using System.Buffers.Binary;
using Google.Protobuf;
using Phaul.Images;
using Phaul.Images.Entries;

namespace Phaul.Tests.Images;

public sealed class CriuStatisticsTests
{
    private static readonly StatsEntry Dump = new()
    {
        Dump = new DumpStatsEntry
        {
            FreezingTime = 1_000,
            FrozenTime = 2_500_000,
            MemdumpTime = 3,
            MemwriteTime = 4,
            PagesScanned = 5_000_000_000,
            PagesSkippedParent = 6,
            PagesWritten = 7,
            IrmapResolve = 8,
            PagesLazy = 9,
            PagePipes = 10,
            PagePipeBufs = 11,
            ShpagesScanned = 12,
            ShpagesSkippedParent = 13,
            ShpagesWritten = 14,
        },
    };

    private static readonly StatsEntry Restore = new()
    {
        Restore = new RestoreStatsEntry
        {
            PagesCompared = 1,
            PagesSkippedCow = 2,
            ForkingTime = 3,
            RestoreTime = 1_070_000,
            PagesRestored = 5,
        },
    };

    [Fact]
    public void A_dumps_statistics()
    {
        var statistics = CriuStatistics.ParseDump(Image(Dump));
        Assert.Equal(
            new DumpStatistics
            {
                FreezingTime = TimeSpan.FromMilliseconds(1),
                FrozenTime = TimeSpan.FromSeconds(2.5),
                MemoryDumpTime = TimeSpan.FromMicroseconds(3),
                MemoryWriteTime = TimeSpan.FromMicroseconds(4),
                PagesScanned = 5_000_000_000,
                PagesSkippedParent = 6,
                PagesWritten = 7,
                IrmapResolveTime = TimeSpan.FromMicroseconds(8),
                PagesLazy = 9,
                PagePipes = 10,
                PagePipeBuffers = 11,
                SharedPagesScanned = 12,
                SharedPagesSkippedParent = 13,
                SharedPagesWritten = 14,
            },
            statistics);
        Assert.Equal(
            (5_000_000_012, 19, 21), (statistics.TotalPagesScanned, statistics.TotalPagesSkippedParent, statistics.TotalPagesWritten));
    }

    [Fact]
    public void A_restores_statistics()
    {
        Assert.Equal(
            new RestoreStatistics
            {
                PagesCompared = 1,
                PagesSkippedCow = 2,
                ForkingTime = TimeSpan.FromMicroseconds(3),
                RestoreTime = TimeSpan.FromSeconds(1.07),
                PagesRestored = 5,
            },
            CriuStatistics.ParseRestore(Image(Restore)));
    }

    [Fact]
    public void The_one_for_the_other_is_damage()
    {
        Assert.Throws<DamagedImageException>(() => CriuStatistics.ParseDump(Image(Restore)));
        Assert.Throws<DamagedImageException>(() => CriuStatistics.ParseRestore(Image(Dump)));
    }

    [Fact]
    public void A_missing_field_is_damage()
    {
        var incomplete = new StatsEntry { Dump = new DumpStatsEntry(Dump.Dump) };
        incomplete.Dump.ClearFrozenTime();
        Assert.Throws<DamagedImageException>(() => CriuStatistics.ParseDump(Image(incomplete)));
    }

    [Fact]
    public void More_pages_than_there_can_be_are_damage()
    {
        var absurd = new StatsEntry { Dump = new DumpStatsEntry(Dump.Dump) { PagesWritten = ulong.MaxValue } };
        Assert.Throws<DamagedImageException>(() => CriuStatistics.ParseDump(Image(absurd)));
    }

    [Fact]
    public void Files_are_read_by_their_names_and_within_bounds()
    {
        var directory = Directory.CreateTempSubdirectory("phaul-statistics-");
        var file = Path.Combine(directory.FullName, "stats-dump");
        Assert.Throws<FileNotFoundException>(() => CriuStatistics.ReadDump(directory.FullName));
        File.WriteAllBytes(file, Image(Dump));
        Assert.Equal(7, CriuStatistics.ReadDump(directory.FullName).PagesWritten);
        File.WriteAllBytes(file, new byte[1 << 20]);
        Assert.Throws<DamagedImageException>(() => CriuStatistics.ReadDump(directory.FullName));
        directory.Delete(recursive: true);
    }

    [Fact]
    public void Damage_never_gives_another_exception()
    {
        const int seed = 20251121;
        var random = new Random(seed);
        var (readable, damaged) = (0, 0);
        for (var round = 0; round < 20_000; round++)
        {
            var image = Image(random.Next(2) == 0 ? Dump : Restore);
            switch (random.Next(4))
            {
                case 0:
                    image = new byte[random.Next(100)];
                    random.NextBytes(image);
                    break;
                case 1: // a message of noise behind a good header
                    random.NextBytes(image.AsSpan(12));
                    break;
                case 2:
                    image = image[..random.Next(image.Length)];
                    break;
                default:
                    image[random.Next(image.Length)] ^= (byte)(1 << random.Next(8));
                    break;
            }
            try
            {
                if (random.Next(2) == 0) CriuStatistics.ParseDump(image);
                else CriuStatistics.ParseRestore(image);
                readable++;
            }
            catch (DamagedImageException)
            {
                damaged++;
            }
            catch (Exception exception)
            {
                Assert.Fail($"seed {seed}, round {round}: {exception}");
            }
        }
        Assert.True(readable > 0 && damaged > readable, $"{readable} readable, {damaged} damaged"); // both ways were taken
    }

    private static byte[] Image(StatsEntry entry)
    {
        var message = entry.ToByteArray();
        var image = new byte[12 + message.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(image, 0x55105940);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(4), 0x57093306);
        BinaryPrimitives.WriteInt32LittleEndian(image.AsSpan(8), message.Length);
        message.CopyTo(image, 12);
        return image;
    }
}
