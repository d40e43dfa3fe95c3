// One line of a journal, written and read: {"v":1,"seq":n,"time":"…","kind":"…",…,"crc":"xxxxxxxx"}.

using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Phaul.Journal;

/// <summary>
/// The envelope (v first, crc last, seq, time, kind) is the same in every version of the format; the version counts what is between.
/// The checksum is over the line as if the crc member were not there.
/// </summary>
internal static class JournalLine
{
    public const int Version = 1;

    /// <summary>The most bytes a line may have. A tree of 65,536 processes, the most there may be, takes a third of it.</summary>
    public const int MaxBytes = 16 << 20;

    private const string TimeFormat = "yyyy-MM-dd'T'HH:mm:ss.fffffff'Z'";

    private static readonly JsonSerializerOptions Json = JournalJson.MakeOptions();

    // Kinds are names in files that outlive a version of Phaul: they are written out, not derived from the names of types.
    private static readonly (string Kind, Type Type)[] Kinds =
    [
        ("begun", typeof(Begun)),
        ("reopened", typeof(Reopened)),
        ("treeIdentity", typeof(TreeIdentity)),
        ("imagesPlace", typeof(ImagesPlace)),
        ("stateEntered", typeof(StateEntered)),
        ("iterationFinished", typeof(IterationFinished)),
        ("warning", typeof(Warning)),
        ("prepared", typeof(Prepared)),
        ("resuming", typeof(Resuming)),
        ("neverRan", typeof(NeverRan)),
        ("peerMet", typeof(PeerMet)),
        ("peerUntold", typeof(PeerUntold)),
        ("peerTold", typeof(PeerTold)),
        ("commitIntent", typeof(CommitIntent)),
        ("engineOfOwn", typeof(EngineOfOwn)),
        ("treeGone", typeof(TreeGone)),
        ("memoryServed", typeof(MemoryServed)),
        ("memoryLost", typeof(MemoryLost)),
        ("memoryComplete", typeof(MemoryComplete)),
        ("resolution", typeof(Resolution)),
        ("finished", typeof(Finished)),
    ];

    /// <summary>Ends a torn line that is left where it is: such a line is no record, by the word of the writer that went on.</summary>
    public static ReadOnlySpan<byte> TornMark => " #torn"u8;

    private static ReadOnlySpan<byte> CrcMember => ",\"crc\":\""u8;

    private static ReadOnlySpan<byte> CrcEnd => "\"}"u8;

    private static int CrcLength => CrcMember.Length + 8 + CrcEnd.Length;

    /// <summary>The bytes of a record, its newline included.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: it is too long.</exception>
    public static byte[] Encode(JournalRecord record)
    {
        var kind = Array.Find(Kinds, known => known.Type == record.GetType()).Kind
            ?? throw new ArgumentException($"{record.GetType().Name} is not a kind of record that can be appended.", nameof(record));
        var content = JsonSerializer.SerializeToUtf8Bytes(record, Contract(record.GetType()));
        var time = record.Time.UtcDateTime.ToString(TimeFormat, CultureInfo.InvariantCulture);
        var head = string.Create(
            CultureInfo.InvariantCulture, $"{{\"v\":{Version},\"seq\":{record.Sequence},\"time\":\"{time}\",\"kind\":\"{kind}\"");

        var line = new ArrayBufferWriter<byte>(head.Length + content.Length + 24);
        Encoding.UTF8.GetBytes(head, line);
        if (content.Length > 2)
        {
            line.Write(","u8);
            line.Write(content.AsSpan(1, content.Length - 2));
        }

        var crc = Crc32.Finish(Crc32.Add(Crc32.Add(Crc32.Start, line.WrittenSpan), "}"u8));
        line.Write(CrcMember);
        Encoding.UTF8.GetBytes(crc.ToString("x8", CultureInfo.InvariantCulture), line);
        line.Write(CrcEnd);
        if (line.WrittenCount > MaxBytes)
            throw new PhaulException(
                PhaulErrorId.JournalFailed, $"A record of {line.WrittenCount} bytes is more than a journal takes ({MaxBytes}).");
        line.Write("\n"u8);
        return line.WrittenSpan.ToArray();
    }

    /// <summary>Has everything compiled that the records of a hand-over are written with: a frozen program would wait for it.</summary>
    public static void WarmUp()
    {
        var processes = new[] { new JournaledProcess(1, 1, "") };
        foreach (var record in (JournalRecord[])[new TreeIdentity("", processes), new Prepared(1, "", processes, ""), new CommitIntent(), new TreeGone()])
            Encode(record);
    }

    /// <summary>Reads a line without its newline. Exactly one of record and fault is not null.</summary>
    public static (JournalRecord? Record, int Version, string? Fault) Decode(ReadOnlyMemory<byte> line)
    {
        if (!ChecksumIsRight(line.Span))
            return (null, 0, "the checksum is not right");
        try
        {
            using var document = JsonDocument.Parse(line);
            var members = document.RootElement;
            var version = members.GetProperty("v").GetInt32();
            var sequence = members.GetProperty("seq").GetInt64();
            var time = members.GetProperty("time").GetDateTimeOffset();
            var kind = members.GetProperty("kind").GetString() ?? "";
            var type = version == Version ? Array.Find(Kinds, known => known.Kind == kind).Type : null;
            var record = type is null
                ? new Unknown(kind, version, members.Clone())
                : (JournalRecord?)JsonSerializer.Deserialize(line.Span, Contract(type)) ?? throw new JsonException("It is null.");
            return (record with { Sequence = sequence, Time = time }, version, null);
        }
        catch (Exception e) when (
            e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or OverflowException)
        {
            // The checksum is right, so this is what somebody wrote; but what it means is not known, and is not guessed.
            return (null, 0, $"it cannot be understood: {e.Message}");
        }
    }

    /// <summary>Whether a line, without its newline, is one that a writer found torn and marked.</summary>
    public static bool IsMarkedTorn(ReadOnlySpan<byte> line) => line.EndsWith(TornMark);

    private static bool ChecksumIsRight(ReadOnlySpan<byte> line)
    {
        if (line.Length <= CrcLength || line[0] != (byte)'{')
            return false;
        var body = line[..^CrcLength];
        var tail = line[^CrcLength..];
        var crc = Crc32.Finish(Crc32.Add(Crc32.Add(Crc32.Start, body), "}"u8));
        Span<byte> expected = stackalloc byte[8];
        // Compared as text: a flipped bit can turn a hex digit into its capital, which would mean the same number.
        crc.TryFormat(expected, out _, "x8", CultureInfo.InvariantCulture);
        return tail.StartsWith(CrcMember) && tail.EndsWith(CrcEnd) && tail.Slice(CrcMember.Length, 8).SequenceEqual(expected);
    }

    private static JsonTypeInfo Contract(Type type) => Json.GetTypeInfo(type);
}
