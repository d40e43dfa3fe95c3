// What the journal's tests share: a state directory that goes away, and sample records.

using System.Text.Json;
using Phaul.Journal;

namespace Phaul.Tests.Journal;

/// <summary>A state directory of one test's own.</summary>
public sealed class TemporaryState : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("phaul-journal-").FullName;

    public TemporaryState() => State = new StateDirectory(Path.Combine(_root, "state"));

    public StateDirectory State { get; }

    public void Dispose() => Directory.Delete(_root, recursive: true);
}

/// <summary>One record of each kind, with every member set.</summary>
internal static class Sample
{
    public static readonly DateTimeOffset Time = new(2026, 11, 21, 22, 45, 1, 234, TimeSpan.Zero);

    public static Begun Begun(string id, MigrationSide side = MigrationSide.Source)
        => new(id, side, "höst a", MigrationMode.Auto, 4711, "a \"program\"\n", "b:7248", "/var/lib/phaul/images")
        {
            PhaulVersion = "0.1.0",
            Request = new Dictionary<string, string> { ["fileLocks"] = "true", ["external"] = "mnt[/a b]:c" },
        };

    public static StateEntered Entered(MigrationState state, MigrationSide side = MigrationSide.Source, string? reason = null)
        => new(new MigrationStateChange(side, state, Time, reason));

    public static IterationFinished Iteration(string id, int index) => new(new PhaulIteration
    {
        MigrationId = id,
        Index = index,
        Kind = IterationKind.PreDump,
        StartTime = Time,
        Duration = TimeSpan.FromTicks(1234567891),
        FrozenTime = TimeSpan.FromMicroseconds(812),
        PagesScanned = 32782,
        PagesSkipped = 12,
        PagesWritten = 5636,
        BytesSent = 23_085_056,
        DirtyBytesPerSecond = index == 1 ? null : 4e6 / 3,
        BytesPerSecond = double.PositiveInfinity,
        PredictedDowntime = index == 1 ? null : TimeSpan.FromMilliseconds(83.5),
        Decision = IterationDecision.Continue,
        Reason = "5636 pages written, 64 are few enough",
    });

    public static Finished Finished(
        string id,
        MigrationState state,
        MigrationSide side = MigrationSide.Source,
        ProgramState program = ProgramState.RunningOnDestination)
        => new(new PhaulMigrationResult
        {
            MigrationId = id,
            Side = side,
            Mode = MigrationMode.StopAndCopy,
            State = state,
            ProgramState = program,
            SourceHost = "a",
            DestinationHost = "b",
            Pid = 4711,
            ProcessName = "counter",
            DestinationPid = 4711,
            StartTime = Time,
            Duration = TimeSpan.FromSeconds(2.5),
            Downtime = TimeSpan.FromMilliseconds(83),
            MemoryCompleteAfter = TimeSpan.FromMilliseconds(400),
            BytesSent = 1000,
            PageBytes = 900,
            ImageBytes = 90,
            PagesWritten = 7,
            IterationCount = 2,
            States = [new(side, MigrationState.Connecting, Time), new(side, state, Time, "why")],
            ImagesDirectory = "/var/lib/phaul/images/x",
            Warnings = ["a", "b"],
            Error = state == MigrationState.Completed ? null : "it did not work",
        });

    public static JournalRecord[] EveryKind(string id) =>
    [
        Begun(id),
        new TreeIdentity("7d1c0a58-0000-4000-8000-000000000001", [new(4711, 123456, "counter"), new(4712, 123460, ") (")]),
        new ImagesPlace("/var/lib/phaul/images/x"),
        Entered(MigrationState.Connecting),
        Entered(MigrationState.PreCopying, reason: "tracks dirty memory"),
        Iteration(id, 1),
        Iteration(id, 2),
        new Warning("the clock of b is 3 s ahead"),
        new Prepared(
            4711,
            "7d1c0a58-0000-4000-8000-000000000002",
            [new(4711, 99)],
            "/images/2",
            JsonDocument.Parse("""{"a":[1,{"b":"\n"}]}""").RootElement),
        new Resuming(),
        new NeverRan(),
        new PeerMet("höst b", "10.77.0.2:7248", new string('A', 64), new PeerEndpoint("b", 7248, null, false)),
        new PeerUntold(),
        new PeerTold(),
        new CommitIntent(),
        new EngineOfOwn(),
        new TreeGone(PagesStillServed: true),
        new MemoryServed(),
        new MemoryLost(),
        new MemoryComplete(),
        new Resolution("the source tree is gone; the destination goes on", "phaul resolve, root"),
        Finished(id, MigrationState.Completed),
    ];

    /// <summary>A journal with the records; returns its path. The writer is closed.</summary>
    public static async Task<string> WriteAsync(StateDirectory state, string id, MigrationSide side, params JournalRecord[] records)
    {
        await using var journal = await MigrationJournal.CreateAsync(state, id, side);
        foreach (var record in records)
            await journal.AppendAsync(record);
        return journal.Path;
    }

    /// <summary>Records as JSON without sequence and time: what compares by content, lists included.</summary>
    public static string[] Contents(IEnumerable<JournalRecord> records) => records
        .Select(r => r is Begun b ? b with { Writer = null } : r)
        .Select(r => r.GetType().Name + JsonSerializer.Serialize(r, r.GetType(), Web))
        .ToArray();

    private static readonly JsonSerializerOptions Web = new(JsonSerializerDefaults.Web)
    {
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };
}
