// What people read.

using Phaul.Cli.Output;

namespace Phaul.Cli.Tests;

public class TextTests
{
    [Fact]
    public void ProgressSaysWhereItIsAndWhatIsLeft() =>
        Assert.Equal("PreCopying  iteration 2  16.0 of 64.0 MiB  25 %  32.0 MiB/s  1.5 s left", MigrationText.Progress(Samples.Progress, 200));

    [Theory]
    [InlineData(0, "")]
    [InlineData(1, "…")]
    [InlineData(12, "PreCopying …")]
    public void ProgressFitsTheTerminal(int width, string text) => Assert.Equal(text, MigrationText.Progress(Samples.Progress, width));

    [Fact]
    public void ProgressWithoutAnEstimateLeavesItOut() =>
        Assert.Equal(
            "Transferring  16.0 MiB  32.0 MiB/s",
            MigrationText.Progress(Samples.Progress with { State = MigrationState.Transferring, Iteration = 0, BytesExpected = null }, 200));

    [Fact]
    public void TheColumnsOfARowStandUnderTheirHeads()
    {
        var row = MigrationText.Row(Samples.Iteration);
        foreach (var (head, value) in (ReadOnlySpan<(string, string)>)[("#", "1"), ("time", "250 ms"), ("pages", "16400"), ("frozen", "80 ms")])
            Assert.Equal(MigrationText.RowHead.IndexOf(head, StringComparison.Ordinal) + head.Length, row.IndexOf(value, StringComparison.Ordinal) + value.Length);
        Assert.Equal(MigrationText.RowHead.IndexOf("then", StringComparison.Ordinal), row.IndexOf("all memory", StringComparison.Ordinal));
        Assert.Equal(MigrationText.RowHead.IndexOf("kind", StringComparison.Ordinal), row.IndexOf("FinalDump", StringComparison.Ordinal));
    }

    [Fact]
    public void TheSummarySaysWhatWasMovedAndForHowLongItWasDown()
    {
        var summary = MigrationText.Summary(Samples.Result);
        Assert.Contains("pid 10001 (counter) from a to b, pid 10001 there", summary);
        Assert.Contains("down     105 ms", summary);
        Assert.Contains("66.0 MiB (64.0 MiB pages, 0.2 MiB other images)", summary);
        Assert.DoesNotContain("images   kept", summary);
    }

    [Fact]
    public void AnErrorHasItsFixedShape()
    {
        var error = new PhaulException(PhaulErrorId.DumpFailed, "CRIU could not dump the tree")
        {
            Host = "a",
            Step = MigrationState.Freezing,
            CriuLog = ["Error (criu/x.c:1): one", "Error (criu/x.c:2): two"],
            RecommendedAction = "pass --file-locks",
            Result = Samples.Result with
            {
                ImagesDirectory = "/var/lib/phaul/images/x",
                States = [new MigrationStateChange(MigrationSide.Source, MigrationState.Freezing, DateTimeOffset.UnixEpoch)],
            },
        };
        Assert.Equal(
            """
            phaul: CRIU could not dump the tree
              error    DumpFailed
              host     a
              step     Freezing
              program  runs on the source; nothing was lost
              criu     Error (criu/x.c:1): one
                       Error (criu/x.c:2): two
              images   /var/lib/phaul/images/x
              next     pass --file-locks

            """,
            ErrorReport.Of(error));
    }

    [Fact]
    public void TheTableOfChecksLinesUpAndShowsRemedies()
    {
        var rows = CheckTable.Rows(
        [
            new CheckResult("Files", MigrationSide.Destination, "beta", CheckVerdict.Failed, "/x is missing", "copy it"),
            new CheckResult("CriuVersion", MigrationSide.Source, "a", CheckVerdict.Passed, "4.2"),
        ]).ToArray();
        Assert.Equal(
            [
                "Failed   beta  Files        /x is missing\n                            -> copy it",
                "Passed   a     CriuVersion  4.2",
            ],
            rows);
    }
}
