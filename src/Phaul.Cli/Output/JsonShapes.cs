// --json: every shape that leaves phaul as JSON, and how it is written. docs/cli.md describes them.

using System.Text.Json.Serialization;

namespace Phaul.Cli.Output;

/// <summary>What all lines have: what happened and when.</summary>
internal abstract record JsonLine(
    [property: JsonPropertyOrder(-2)] string Event,
    [property: JsonPropertyOrder(-1)] DateTimeOffset Time);

internal sealed record ListeningLine(DateTimeOffset Time, string Endpoint, string? Fingerprint, int Pid, IReadOnlyList<string> Unresolved)
    : JsonLine("listening", Time);

internal sealed record StoppingLine(DateTimeOffset Time, int ActiveMigrations) : JsonLine("stopping", Time);

internal sealed record StoppedLine(DateTimeOffset Time) : JsonLine("stopped", Time);

internal sealed record StateLine(DateTimeOffset Time, string MigrationId, MigrationSide Side, MigrationState State, string? Reason)
    : JsonLine("state", Time);

internal sealed record ProgressLine(
    DateTimeOffset Time, string MigrationId, MigrationState State, int Iteration, long BytesMoved, long? BytesExpected,
    double BytesPerSecond, int? Percent, double? RemainingMilliseconds, bool MemoryFollows) : JsonLine("progress", Time);

internal sealed record IterationLine(
    DateTimeOffset Time, string MigrationId, int Index, IterationKind Kind, DateTimeOffset StartTime, double DurationMilliseconds,
    double FrozenMilliseconds, long PagesScanned, long PagesSkipped, long PagesWritten, long BytesSent, double BytesPerSecond,
    double? DirtyBytesPerSecond, double? PredictedDowntimeMilliseconds, IterationDecision Decision, string Reason)
    : JsonLine("iteration", Time);

internal sealed record WarningLine(DateTimeOffset Time, string MigrationId, string Message) : JsonLine("warning", Time);

internal sealed record NoticeLine(DateTimeOffset Time, string Message) : JsonLine("notice", Time);

internal sealed record StoryLine(DateTimeOffset Time, string MigrationId, string Message) : JsonLine("story", Time);

internal sealed record CriuLogLine(DateTimeOffset Time, string MigrationId, string Host, string Line) : JsonLine("criuLog", Time);

internal sealed record CheckLine(
    DateTimeOffset Time, string Name, MigrationSide Side, string Host, CheckVerdict Verdict, string Message, string? Remedy)
    : JsonLine("check", Time);

internal sealed record CheckedLine(DateTimeOffset Time, int Passed, int Warnings, int Failed, int Skipped) : JsonLine("checked", Time);

internal sealed record StateEntry(MigrationSide Side, MigrationState State, DateTimeOffset Time, string? Reason);

internal sealed record ResultLine(
    DateTimeOffset Time, string MigrationId, MigrationSide Side, MigrationMode Mode, MigrationState State, ProgramState ProgramState,
    string SourceHost, string DestinationHost, int Pid, string? ProcessName, int? DestinationPid, DateTimeOffset StartTime,
    double DurationMilliseconds, double? DowntimeMilliseconds, double? MemoryCompleteAfterMilliseconds, long BytesSent, long PageBytes,
    long ImageBytes, long PagesWritten, int IterationCount, IReadOnlyList<StateEntry> States, string? ImagesDirectory,
    IReadOnlyList<string> Warnings, string? Error) : JsonLine("result", Time);

internal sealed record ErrorLine(
    DateTimeOffset Time, string? MigrationId, PhaulErrorId ErrorId, string Message, string? Host, MigrationState? Step,
    ProgramState ProgramState, IReadOnlyList<string> CriuLog, string? RecommendedAction, int ExitCode) : JsonLine("error", Time);

internal sealed record MigrationLine(
    DateTimeOffset Time, string MigrationId, MigrationSide Side, MigrationState? State, ProgramState ProgramState, MigrationMode? Mode, int? Pid,
    string? ProcessName, string? SourceHost, string? DestinationHost, DateTimeOffset? StartTime, double? DurationMilliseconds,
    double? DowntimeMilliseconds, int IterationCount, long BytesSent, bool IsRunning, bool NeedsResolution, string? Corruption,
    string? ImagesDirectory, IReadOnlyList<string> Warnings, string? Error, string JournalPath) : JsonLine("migration", Time);

internal sealed record ResolutionLine(
    DateTimeOffset Time, string MigrationId, MigrationSide Side, ResolutionOutcome Outcome, MigrationState? State, ProgramState ProgramState,
    int? Pid, string? ProcessName, string? SourceHost, string? DestinationHost, string Found, string? Done, string? Remains)
    : JsonLine("resolution", Time);

internal sealed record CertificateLine(
    DateTimeOffset Time, string CertificatePath, string KeyPath, string Fingerprint, DateTimeOffset ExpiryTime) : JsonLine("certificate", Time);

/// <summary>How the shapes are written: camelCase names, states and ids as the words of the documentation, no nulls.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, UseStringEnumConverter = true, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ListeningLine))]
[JsonSerializable(typeof(StoppingLine))]
[JsonSerializable(typeof(StoppedLine))]
[JsonSerializable(typeof(StateLine))]
[JsonSerializable(typeof(ProgressLine))]
[JsonSerializable(typeof(IterationLine))]
[JsonSerializable(typeof(WarningLine))]
[JsonSerializable(typeof(NoticeLine))]
[JsonSerializable(typeof(StoryLine))]
[JsonSerializable(typeof(CriuLogLine))]
[JsonSerializable(typeof(CheckLine))]
[JsonSerializable(typeof(CheckedLine))]
[JsonSerializable(typeof(ResultLine))]
[JsonSerializable(typeof(ErrorLine))]
[JsonSerializable(typeof(CertificateLine))]
[JsonSerializable(typeof(MigrationLine))]
[JsonSerializable(typeof(ResolutionLine))]
internal sealed partial class JsonShapes : JsonSerializerContext;
