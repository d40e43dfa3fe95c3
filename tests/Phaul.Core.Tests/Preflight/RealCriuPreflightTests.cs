// The checks with the real CRIU: what it says of itself, and that a program that passes them can be dumped.

using Phaul.Engines;
using Phaul.Preflight;
using Phaul.Tests.Criu;

namespace Phaul.Tests.Preflight;

[Collection(nameof(RealCriuCollection))]
public sealed class RealCriuPreflightTests(RealCriu criu)
{
    [SkippableFact]
    public async Task TheTrialOfDirtyTrackingAgreesWithTheKernel()
    {
        string path = criu.Require();
        var facts = await CriuFacts.ProbeAsync(path, CancellationToken.None);
        var failure = await TrackingTrial.RunAsync(path, CancellationToken.None);
        Assert.True(facts.Features!.MemTrack == failure is null, failure);
    }

    [SkippableFact]
    public async Task BothSidesPassAProgramOnAHostThatCanMoveIt()
    {
        string path = criu.Require();
        await using var program = await CountingProgram.StartAsync();
        var tree = ProcessTree.Capture(program.Pid);
        var request = new MigrationRequest { Pid = program.Pid, Destination = new MigrationEndpoint { Host = "nowhere" }, CriuPath = path };
        string work = Path.GetTempPath();

        var source = await SourceChecks.RunAsync(tree, request, work);
        Assert.All(source, result => Assert.True(result.Verdict != CheckVerdict.Failed, result.ToString()));
        Assert.Equal(CheckVerdict.Passed, source.Single(result => result.Name == "CriuPresent").Verdict);
        Assert.Equal(CheckVerdict.Passed, source.Single(result => result.Name == "CriuCheck").Verdict);
        Assert.Contains(source.Single(result => result.Name == "DirtyTracking").Verdict,
            new[] { CheckVerdict.Passed, CheckVerdict.Warning });

        var survey = await TreeSurveyor.SurveyAsync(tree, path);
        Assert.InRange(survey.CriuVersion, 40_000u, 99_999u);
        var destination = await DestinationChecks.RunAsync(
            survey, new DestinationServerOptions { CriuPath = path }, new ProcessOptions(), work, MigrationMode.StopAndCopy);
        // On the same machine everything fits but for the pids, which the program itself has.
        Assert.Equal(["FreePids"], destination.Where(result => result.Verdict == CheckVerdict.Failed).Select(result => result.Name));
        Assert.Equal(CheckVerdict.Passed, destination.Single(result => result.Name == "PageServerFormat").Verdict);
        await program.SeeItCountAsync();
    }
}
