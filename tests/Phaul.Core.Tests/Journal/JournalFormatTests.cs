// The form of a journal's lines.

using System.Globalization;
using System.Text;
using System.Text.Json;
using Phaul.Journal;

namespace Phaul.Tests.Journal;

public sealed class JournalFormatTests : IDisposable
{
    private readonly TemporaryState _temporary = new();
    private readonly string _id = StateDirectory.NewMigrationId();

    public void Dispose() => _temporary.Dispose();

    [Theory]
    [InlineData("", 0u)]
    [InlineData("123456789", 0xCBF43926u)]
    [InlineData("The quick brown fox jumps over the lazy dog", 0x414FA339u)]
    public void Crc32HasTheStandardCheckValues(string text, uint crc) => Assert.Equal(crc, Crc32.Of(Encoding.ASCII.GetBytes(text)));

    [Fact]
    public async Task EveryKindIsReadAsItWasWritten()
    {
        var records = Sample.EveryKind(_id);
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, records);

        var contents = await JournalReader.ReadAsync(path);

        Assert.Null(contents.Corruption);
        Assert.False(contents.Torn);
        Assert.Null(contents.NewerVersion);
        Assert.Equal(Sample.Contents(records), Sample.Contents(contents.Records));
        Assert.Equal(Enumerable.Range(1, records.Length).Select(n => (long)n), contents.Records.Select(r => r.Sequence));
        Assert.All(contents.Records, record => Assert.NotEqual(default, record.Time));
    }

    [Fact]
    public void EveryConcreteRecordTypeIsAmongTheSamples()
    {
        var types = typeof(JournalRecord).Assembly.GetTypes().Where(t => t.IsSubclassOf(typeof(JournalRecord)) && !t.IsAbstract);
        Assert.Equal(
            types.Where(t => t != typeof(Unknown) && t != typeof(Reopened)).Select(t => t.Name).Order(),
            Sample.EveryKind(_id).Select(r => r.GetType().Name).Distinct().Order());
    }

    [Fact]
    public async Task LinesAreJsonObjectsWithTheEnvelopeAndUnitsInNames()
    {
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.EveryKind(_id));
        var text = await File.ReadAllTextAsync(path);
        Assert.EndsWith("\n", text, StringComparison.Ordinal);
        var lines = text.TrimEnd('\n').Split('\n');
        foreach (var (line, index) in lines.Select((line, index) => (line, index)))
        {
            using var json = JsonDocument.Parse(line);
            var names = json.RootElement.EnumerateObject().Select(member => member.Name).ToArray();
            Assert.Equal(["v", "seq", "time", "kind"], names[..4]);
            Assert.Equal("crc", names[^1]);
            Assert.Equal(names.Length, names.Distinct().Count());
            Assert.Equal(1, json.RootElement.GetProperty("v").GetInt32());
            Assert.Equal(index + 1, json.RootElement.GetProperty("seq").GetInt64());
            // What anybody can do with a CRC-32 of their own: cut the member out and compare.
            var without = line[..line.LastIndexOf(",\"crc\"", StringComparison.Ordinal)] + "}";
            var crc = Crc32.Of(Encoding.UTF8.GetBytes(without)).ToString("x8", CultureInfo.InvariantCulture);
            Assert.Equal(crc, json.RootElement.GetProperty("crc").GetString());
        }

        using var finished = JsonDocument.Parse(lines.First(line => line.Contains("\"iterationFinished\"", StringComparison.Ordinal)));
        var iteration = finished.RootElement.GetProperty("iteration");
        Assert.Equal(0.812, iteration.GetProperty("frozenTimeMs").GetDouble());
        Assert.Equal("PreDump", iteration.GetProperty("kind").GetString());
        Assert.Contains("höst a", lines[0], StringComparison.Ordinal);
        Assert.Contains("\"writer\":{\"pid\":" + Environment.ProcessId, lines[0], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(1L)]
    [InlineData(-1L)]
    [InlineData(123456789012345678L)]
    public async Task DurationsKeepTheirTicks(long ticks)
    {
        // Beyond 2^53 ticks (28 years) a double no longer holds each tick.
        var exact = Math.Abs(ticks) < 1L << 53;
        var result = Sample.Finished(_id, MigrationState.Completed).Result with { Duration = new(ticks) };
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.Begun(_id), new Finished(result));
        var read = ((Finished)(await JournalReader.ReadAsync(path)).Records[1]).Result;
        Assert.InRange(read.Duration.Ticks, ticks - (exact ? 0 : 16), ticks + (exact ? 0 : 16));
    }

    [Fact]
    public async Task AnUnknownKindIsKept()
    {
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.Begun(_id));
        const string Json = """{"v":1,"seq":2,"time":"2026-11-21T22:45:01Z","kind":"teleported","where":{"to":"c"}}""";
        await File.AppendAllTextAsync(path, Line(Json));
        await using (var journal = await MigrationJournal.OpenForRecoveryAsync(_temporary.State, _id, MigrationSide.Source))
            await journal.AppendAsync(new Warning("w"));

        var contents = await JournalReader.ReadAsync(path);

        Assert.Null(contents.Corruption);
        Assert.Null(contents.NewerVersion);
        var unknown = Assert.IsType<Unknown>(contents.Records[1]);
        Assert.Equal(("teleported", 1), (unknown.Kind, unknown.Version));
        Assert.Equal("c", unknown.Content.GetProperty("where").GetProperty("to").GetString());
        Assert.IsType<Warning>(contents.Records[^1]);
    }

    [Fact]
    public async Task ANewerVersionIsReportedAndNotWrittenTo()
    {
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.Begun(_id));
        await File.AppendAllTextAsync(path, Line("""{"v":2,"seq":2,"time":"2026-11-21T22:45:01Z","kind":"warning","text":7}"""));

        var contents = await JournalReader.ReadAsync(path);

        Assert.Null(contents.Corruption);
        Assert.Equal(2, contents.NewerVersion);
        Assert.Equal(2, Assert.IsType<Unknown>(contents.Records[1]).Version);
        var refused = await Assert.ThrowsAsync<PhaulException>(
            () => MigrationJournal.OpenForRecoveryAsync(_temporary.State, _id, MigrationSide.Source));
        Assert.Equal(PhaulErrorId.JournalFailed, refused.ErrorId);
    }

    [Theory]
    [InlineData("""{"v":1,"seq":2,"time":"2026-11-21T22:45:01Z","kind":"warning","text":7}""", "understood")]
    [InlineData("""{"v":1,"seq":2,"time":"2026-11-21T22:45:01Z","kind":"stateEntered","change":{"state":"Levitating"}}""", "understood")]
    [InlineData("""{"v":1,"seq":2,"kind":"warning","text":"no time"}""", "understood")]
    [InlineData("""{"v":1,"seq":3,"time":"2026-11-21T22:45:01Z","kind":"commitIntent"}""", "record 3 where 2")]
    [InlineData("""{"v":1,"seq":1,"time":"2026-11-21T22:45:01Z","kind":"commitIntent"}""", "record 1 where 2")]
    [InlineData("""{"v":1,"seq":2,"time":"2026-11-21T22:45:01Z","kind":"warning","text":"x"}}""", "understood")]
    public async Task ALineWithARightChecksumAndAWrongMeaningIsCorruption(string json, string reason)
    {
        var path = await Sample.WriteAsync(_temporary.State, _id, MigrationSide.Source, Sample.Begun(_id));
        await File.AppendAllTextAsync(path, Line(json));

        var contents = await JournalReader.ReadAsync(path);

        Assert.Equal(2, contents.Corruption?.Line);
        Assert.Contains(reason, contents.Corruption!.Reason, StringComparison.Ordinal);
        Assert.Single(contents.Records);
    }

    private static string Line(string json)
        => $"{json[..^1]},\"crc\":\"{Crc32.Of(Encoding.UTF8.GetBytes(json)).ToString("x8", CultureInfo.InvariantCulture)}\"}}\n";
}
