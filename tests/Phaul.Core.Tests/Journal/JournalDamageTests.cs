// What is left of a journal after a crash in the middle of a write, and after the disk lied.

using System.Globalization;
using Phaul.Journal;

namespace Phaul.Tests.Journal;

public sealed class JournalDamageTests : IDisposable
{
    private readonly TemporaryState _temporary = new();
    private readonly string _id = StateDirectory.NewMigrationId();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task TornAtEveryByteOfTheLastRecordTheRestIsIntactAndRecoveryGoesOn()
    {
        var records = Sample.EveryKind(_id)[..6];
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, records);
        var bytes = await File.ReadAllBytesAsync(path);
        var lastLine = Array.LastIndexOf(bytes, (byte)'\n', bytes.Length - 2) + 1;
        Assert.True(bytes.Length - lastLine > 300);

        for (var length = lastLine; length < bytes.Length; length++)
        {
            await File.WriteAllBytesAsync(path, bytes[..length]);
            // Only the newline missing: the record is whole, and its content is known for certain.
            var whole = length == bytes.Length - 1;
            var expected = records[..(whole ? 6 : 5)];

            var contents = await JournalReader.ReadAsync(path);
            Assert.Null(contents.Corruption);
            Assert.True(contents.Torn == (length > lastLine && !whole), $"cut at {length}");
            Assert.Equal(Sample.Contents(expected), Sample.Contents(contents.Records));

            await using (var journal = await MigrationJournal.OpenForRecoveryAsync(_temporary.State, _id, MigrationSide.Source))
                await journal.AppendAsync(new Warning("after"));
            contents = await JournalReader.ReadAsync(path);
            Assert.True(contents.Corruption is null, $"cut at {length}: {contents.Corruption}");
            Assert.False(contents.Torn);
            Assert.Equal(Sample.Contents(expected), Sample.Contents(contents.Records.SkipLast(2)));
            Assert.Equal(Environment.ProcessId, Assert.IsType<Reopened>(contents.Records[^2]).Writer.Pid);
            Assert.Equal("after", Assert.IsType<Warning>(contents.Records[^1]).Text);
            // Nothing was cut off: what was torn is still there for people.
            Assert.Equal(bytes[..length], (await File.ReadAllBytesAsync(path))[..length]);
        }
    }

    [Fact]
    public async Task EveryFlippedBitIsNoticedAndTheRecordsBeforeItAreIntact()
    {
        var records = Sample.EveryKind(_id);
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, [.. records[..3], records[9], records[7]]);
        var bytes = await File.ReadAllBytesAsync(path);
        var original = Sample.Contents((await JournalReader.ReadAsync(path)).Records);

        var line = 0;
        for (var at = 0; at < bytes.Length; at++)
        {
            var isNewline = bytes[at] == '\n';
            for (var bit = 0; bit < 8; bit++)
            {
                bytes[at] ^= (byte)(1 << bit);
                var read = new List<JournalRecord>();
                var scanner = new JournalScanner();
                scanner.Take(bytes, read);
                var torn = scanner.End(read);
                bytes[at] ^= (byte)(1 << bit);

                var where = $"byte {at} bit {bit} of line {line + 1}";
                Assert.True(torn || scanner.Corruption is not null, $"{where} was not noticed");
                Assert.False(torn && scanner.Corruption is not null, where);
                Assert.True(line == read.Count, $"{where}: {read.Count} records were read");
                Assert.Equal(original[..line], Sample.Contents(read));
                Assert.True(torn ? line == original.Length - 1 : scanner.Corruption!.Line == line + 1, $"{where}: {scanner.Corruption}");
            }

            if (isNewline)
                line++;
        }
    }

    [Fact]
    public async Task ACorruptJournalIsReportedAndNotWrittenTo()
    {
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.EveryKind(_id));
        var bytes = await File.ReadAllBytesAsync(path);
        var secondLine = Array.IndexOf(bytes, (byte)'\n') + 1;
        bytes[secondLine + 40] ^= 4;
        await File.WriteAllBytesAsync(path, bytes);

        var contents = await JournalReader.ReadAsync(path);
        Assert.Equal(new JournalCorruption(2, "the checksum is not right"), contents.Corruption);
        Assert.Equal(Sample.Contents([Sample.Begun(_id)]), Sample.Contents(contents.Records));

        var refused = await Assert.ThrowsAsync<PhaulException>(
            () => MigrationJournal.OpenForRecoveryAsync(_temporary.State, _id, MigrationSide.Source));
        Assert.Equal(PhaulErrorId.JournalFailed, refused.ErrorId);
        Assert.Contains("line 2", refused.Message, StringComparison.Ordinal);
        Assert.Equal(bytes, await File.ReadAllBytesAsync(path));

        var followed = new List<JournalRecord>();
        var failed = await Assert.ThrowsAsync<PhaulException>(async () =>
        {
            await foreach (var record in JournalReader.FollowAsync(path))
                followed.Add(record);
        });
        Assert.Equal(PhaulErrorId.JournalFailed, failed.ErrorId);
        Assert.Single(followed);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task ManyCrashesOneAfterAnotherLoseOnlyWhatWasBeingWritten(int seed)
    {
        var random = new Random(seed);
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.Begun(_id));
        var expected = new List<string>();
        for (var round = 0; round < 60; round++)
        {
            var before = new FileInfo(path).Length;
            var texts = new List<string>();
            await using (var journal = await MigrationJournal.OpenForRecoveryAsync(_temporary.State, _id, MigrationSide.Source))
            {
                for (var n = random.Next(4); n > 0; n--)
                {
                    texts.Add(string.Create(CultureInfo.InvariantCulture, $"round {round}: {random.Next()}"));
                    await journal.AppendAsync(new Warning(texts[^1]));
                }
            }

            // The crash: the file ends anywhere after what was there before this round, the mark of a torn line included.
            var bytes = await File.ReadAllBytesAsync(path);
            var length = random.Next((int)before, bytes.Length + 1);
            await File.WriteAllBytesAsync(path, bytes[..length]);
            var text = System.Text.Encoding.UTF8.GetString(bytes, (int)before, length - (int)before);
            var whole = text.Split('\n').Where(line => line.EndsWith("\"}", StringComparison.Ordinal)).ToArray();
            expected.AddRange(texts.Where(t => whole.Any(line => line.Contains($"\"{t}\"", StringComparison.Ordinal))));

            var contents = await JournalReader.ReadAsync(path);
            Assert.True(contents.Corruption is null, $"seed {seed}, round {round}: {contents.Corruption}");
            Assert.True(expected.SequenceEqual(contents.Records.OfType<Warning>().Select(w => w.Text)), $"seed {seed}, round {round}");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void BytesInPiecesOfAnySizeGiveTheSameRecords(int seed)
    {
        var random = new Random(seed);
        var lines = Sample.EveryKind(_id)
            .SelectMany((record, index) => JournalLine.Encode(record with { Sequence = index + 1, Time = Sample.Time }))
            .ToArray();
        var whole = new List<JournalRecord>();
        new JournalScanner().Take(lines, whole);
        Assert.Equal(Sample.EveryKind(_id).Length, whole.Count);
        for (var round = 0; round < 50; round++)
        {
            var pieces = new List<JournalRecord>();
            var scanner = new JournalScanner();
            var rest = lines.AsSpan();
            while (!rest.IsEmpty)
            {
                var length = Math.Min(rest.Length, 1 + random.Next(1 << random.Next(1, 12)));
                scanner.Take(rest[..length], pieces);
                rest = rest[length..];
            }

            Assert.False(scanner.End(pieces));
            Assert.True(scanner.Corruption is null, $"seed {seed}, round {round}: {scanner.Corruption}");
            Assert.Equal(Sample.Contents(whole), Sample.Contents(pieces));
        }
    }

    [Fact]
    public void ALineWithoutAnEndIsRefusedBeforeMemoryIs()
    {
        var scanner = new JournalScanner();
        var records = new List<JournalRecord>();
        var piece = new byte[1 << 20];
        Array.Fill(piece, (byte)'x');
        for (var n = 0; n < 20; n++)
            scanner.Take(piece, records);
        Assert.Equal(new JournalCorruption(1, "the line is too long"), scanner.Corruption);
    }
}
