// The checks of CRIU itself, the same on both hosts.

using Phaul.Criu;

namespace Phaul.Preflight;

internal static class CriuChecks
{
    private static readonly CriuVersion Oldest = new(3, 17);
    private static readonly CriuVersion OldestTried = new(4, 1);

    /// <summary>Adds the checks of presence, version and CRIU's own check.</summary>
    public static void AddTo(CheckList checks, Task<CriuFacts> facts)
    {
        checks.Add("CriuPresent", async token => Presence(await facts.WaitAsync(token).ConfigureAwait(false)));
        checks.Add("CriuVersion", async token => Version(await facts.WaitAsync(token).ConfigureAwait(false)));
        checks.Add("CriuCheck", async token => OwnCheck(await facts.WaitAsync(token).ConfigureAwait(false)));
    }

    /// <summary>Whether there is a CRIU that answers.</summary>
    public static IReadOnlyList<Finding> Presence(CriuFacts facts) => facts switch
    {
        { Version: { } version } => [new(CheckVerdict.Passed, $"criu {version} answers.")],
        { IsAbsent: true } => [new(
            CheckVerdict.Failed, $"There is no criu here (looked for '{facts.Path}').",
            "Install criu 4.2 or later, or name it by --criu / -CriuPath.")],
        _ => [new(
            CheckVerdict.Failed, $"criu ('{facts.Path}') does not work here: {facts.Failure}",
            "Run 'criu check' on this host as root; a criu older than the kernel may need to be updated.")],
    };

    /// <summary>Whether that version is known to work.</summary>
    public static IReadOnlyList<Finding> Version(CriuFacts facts) => facts.Version switch
    {
        null => [new(CheckVerdict.Skipped, "There is no criu that could be asked for its version.")],
        { } version when version < Oldest => [new(
            CheckVerdict.Failed, $"criu {version} is too old: {Oldest} is the least.", "Install criu 4.2 or later.")],
        { } version when version < OldestTried => [new(
            CheckVerdict.Warning, $"criu {version} is older than {OldestTried}, with which Phaul was tried.",
            "Install criu 4.2 or later.")],
        { } version => [new(CheckVerdict.Passed, $"criu {version}.")],
    };

    /// <summary>What CRIU's own check says.</summary>
    public static IReadOnlyList<Finding> OwnCheck(CriuFacts facts) => facts switch
    {
        { Version: null } => [new(CheckVerdict.Skipped, "There is no criu that could check.")],
        { CheckFailure: { } failure } => [new(
            CheckVerdict.Failed, $"criu's own check of this host failed: {failure}", "Run 'criu check' on this host as root.")],
        _ => [new(CheckVerdict.Passed, "criu's own check found nothing wrong.")],
    };

    /// <summary>Whether pages can be delivered after the restore.</summary>
    public static IReadOnlyList<Finding> LazyPages(CriuFacts facts, MigrationMode mode) => (mode, facts) switch
    {
        (not (MigrationMode.PostCopy or MigrationMode.Hybrid), _) => [new(CheckVerdict.Skipped, $"{mode} does not need it.")],
        (_, { Version: null }) => [new(CheckVerdict.Skipped, "There is no criu that could be asked.")],
        (_, { Features.LazyPages: true }) => [new(CheckVerdict.Passed, "criu and this kernel can deliver pages late.")],
        _ => [new(
            CheckVerdict.Failed,
            $"{mode} needs lazy pages, which criu does not have on this kernel{(facts.FeatureFailure is { } why ? $": {why}" : ".")}",
            "Use --mode PreCopy or StopAndCopy / -Mode PreCopy or StopAndCopy, or a kernel with userfaultfd.")],
    };
}
