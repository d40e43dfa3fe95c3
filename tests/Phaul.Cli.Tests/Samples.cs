// Events and results as the engine would give them.

namespace Phaul.Cli.Tests;

internal static class Samples
{
    public const string Id = "20261121T224501-7f3a9c01";
    public static readonly DateTimeOffset Time = new(2026, 11, 21, 22, 45, 1, TimeSpan.Zero);

    public static PhaulIteration Iteration { get; } = new()
    {
        MigrationId = Id,
        Index = 1,
        Kind = IterationKind.FinalDump,
        StartTime = Time,
        Duration = TimeSpan.FromMilliseconds(250),
        FrozenTime = TimeSpan.FromMilliseconds(80),
        PagesScanned = 16500,
        PagesSkipped = 0,
        PagesWritten = 16400,
        BytesSent = 64L << 20,
        BytesPerSecond = 256 << 20,
        Decision = IterationDecision.Final,
        Reason = "all memory while frozen",
    };

    public static PhaulMigrationResult Result { get; } = new()
    {
        MigrationId = Id,
        Side = MigrationSide.Source,
        Mode = MigrationMode.StopAndCopy,
        State = MigrationState.Completed,
        ProgramState = ProgramState.RunningOnDestination,
        SourceHost = "a",
        DestinationHost = "b",
        Pid = 10001,
        ProcessName = "counter",
        DestinationPid = 10001,
        StartTime = Time,
        Duration = TimeSpan.FromSeconds(1.25),
        Downtime = TimeSpan.FromMilliseconds(105),
        BytesSent = 66L << 20,
        PageBytes = 64L << 20,
        ImageBytes = 200 << 10,
        PagesWritten = 16400,
        IterationCount = 1,
        States = [new MigrationStateChange(MigrationSide.Source, MigrationState.Connecting, Time)],
    };

    public static ProgressEvent Progress { get; } = new(Id, Time, MigrationState.PreCopying, 2, 16 << 20, 64 << 20, 32 << 20);
}
