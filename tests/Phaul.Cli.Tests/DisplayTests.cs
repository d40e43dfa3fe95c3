// How events become output: the changing line of a terminal, plain lines, JSON; and readers that are slow or gone.

using System.Text.Json;
using Phaul.Cli.Output;

namespace Phaul.Cli.Tests;

public class DisplayTests
{
    private static readonly StateChangedEvent Freezing =
        new(Samples.Id, Samples.Time, new MigrationStateChange(MigrationSide.Source, MigrationState.Freezing, Samples.Time));

    [Fact]
    public void OnATerminalProgressIsOneLineThatGivesWay()
    {
        var output = new StringWriter();
        var display = new TextDisplay(new Streams(output, output, () => 200), verbose: false);
        display.Show(Samples.Progress);
        display.Show(Freezing);
        display.End();
        Assert.Equal($"\r\e[K{MigrationText.Progress(Samples.Progress, 199)}\r\e[KFreezing\n", output.ToString());
    }

    [Fact]
    public void ElsewhereThereAreOnlyLines()
    {
        var output = new StringWriter();
        var display = new TextDisplay(new Streams(output, output, null), verbose: false);
        for (var second = 0; second < 12; second++)
            display.Show(Samples.Progress with { Time = Samples.Time.AddSeconds(second) });
        display.Show(Freezing);
        display.Show(new StoryEvent(Samples.Id, Samples.Time, "not asked for"));
        display.End();
        var progress = MigrationText.Progress(Samples.Progress, 200);
        Assert.Equal($"{progress}\n{progress}\nFreezing\n", output.ToString());
    }

    [Fact]
    public void EveryEventIsAnObjectOnALineOfItsOwn()
    {
        MigrationEvent[] events =
        [
            Freezing, Samples.Progress, new IterationCompletedEvent(Samples.Id, Samples.Time, Samples.Iteration),
            new WarningEvent(Samples.Id, Samples.Time, "careful\nnow"), new StoryEvent(Samples.Id, Samples.Time, "s"),
            new CriuLogEvent(Samples.Id, Samples.Time, "a", "Error"),
        ];
        var output = new StringWriter();
        var display = new JsonDisplay(output);
        foreach (var e in events)
            display.Show(e);
        var lines = output.ToString().TrimEnd('\n').Split('\n').Select(line => JsonDocument.Parse(line).RootElement).ToArray();
        Assert.Equal(["state", "progress", "iteration", "warning", "story", "criuLog"], lines.Select(line => line.GetProperty("event").GetString()));
        Assert.All(lines, line => Assert.Equal(Samples.Id, line.GetProperty("migrationId").GetString()));
        Assert.Equal("Freezing", lines[0].GetProperty("state").GetString());
        Assert.Equal(1500, lines[1].GetProperty("remainingMilliseconds").GetDouble());
        Assert.Equal(80, lines[2].GetProperty("frozenMilliseconds").GetDouble());
        Assert.Equal("careful\nnow", lines[3].GetProperty("message").GetString());
    }

    [Fact]
    public void EveryKindOfEventHasAShape()
    {
        // A new event type of the engine must not end `phaul serve --json`
        var kinds = typeof(MigrationEvent).Assembly.GetTypes().Where(type => type.IsSubclassOf(typeof(MigrationEvent))).ToArray();
        Assert.NotEmpty(kinds);
        foreach (var kind in kinds)
        {
            var e = (MigrationEvent)System.Runtime.CompilerServices.RuntimeHelpers.GetUninitializedObject(kind);
            var exception = Record.Exception(() => JsonLines.From(e));
            Assert.False(exception is NotSupportedException, $"{kind.Name} has no shape");
        }
    }

    [Fact]
    public void AResultHasItsUnitsInItsNames()
    {
        var line = JsonDocument.Parse(JsonLines.Write(JsonLines.From(Samples.Result))).RootElement;
        Assert.Equal("result", line.GetProperty("event").GetString());
        Assert.Equal(105, line.GetProperty("downtimeMilliseconds").GetDouble());
        Assert.Equal("StopAndCopy", line.GetProperty("mode").GetString());
        Assert.Equal("Connecting", line.GetProperty("states")[0].GetProperty("state").GetString());
        Assert.False(line.TryGetProperty("imagesDirectory", out _));
    }

    [Fact]
    public async Task AReaderThatIsGoneDoesNotStopAMigration()
    {
        var pump = new EventPump(new JsonDisplay(new BrokenWriter()));
        for (var n = 0; n < 100; n++)
            pump.Report(Freezing);
        await pump.ReportAsync(JsonLines.From(Samples.Result), null);
        await pump.DisposeAsync();
    }

    [Fact]
    public async Task AReaderThatStandsStillDoesNotHoldTheEngine()
    {
        using var blocked = new ManualResetEventSlim();
        var output = new BlockedWriter(blocked);
        var pump = new EventPump(new JsonDisplay(output));
        for (var n = 0; n < 20_000; n++)
            pump.Report(Freezing);
        blocked.Set();
        await pump.ReportAsync(JsonLines.From(Samples.Result), null);
        await pump.DisposeAsync();
        Assert.Contains("\"event\":\"result\"", output.Last);
    }

    private sealed class BrokenWriter : StringWriter
    {
        public override void Write(string? value) => throw new IOException("Broken pipe");
    }

    private sealed class BlockedWriter(ManualResetEventSlim blocked) : StringWriter
    {
        public string Last { get; private set; } = "";

        public override void Write(string? value)
        {
            blocked.Wait(TimeSpan.FromMinutes(1));
            Last = value!;
        }
    }
}
