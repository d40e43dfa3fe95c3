// Everything that can be known before anything is touched, from both hosts.

using Phaul.Engines;
using Phaul.Journal;
using Phaul.Preflight;
using Phaul.Wire;

namespace Phaul;

/// <summary>Runs the checks of a migration and judges them.</summary>
internal sealed class MigrationPreflight
{
    private readonly MigrationRequest _request;
    private readonly string _migrationId;
    private readonly ProcessTree _tree;
    private readonly string _workDirectory;

    public MigrationPreflight(MigrationRequest request, string migrationId, ProcessTree tree, StateDirectory stateDirectory)
    {
        (_request, _migrationId, _tree) = (request, migrationId, tree);
        _workDirectory = request.WorkDirectory ?? stateDirectory.ImagesPath;
        Mode = request.Mode;
    }

    /// <summary>The mode to use: never Auto once the checks were run.</summary>
    public MigrationMode Mode { get; private set; }

    /// <summary>The memory of the tree, in bytes, when it was looked at.</summary>
    public long MemoryBytes { get; private set; }

    /// <summary>What the operator should know although it does not stop the migration.</summary>
    public IReadOnlyList<string> Warnings { get; private set; } = [];

    /// <summary>CRIU's version on this host, as surveys have it; 0: not known.</summary>
    public uint CriuVersion { get; private set; }

    /// <summary>All checks of both hosts.</summary>
    /// <exception cref="PhaulException">The destination could not be asked.</exception>
    public async Task<IReadOnlyList<CheckResult>> RunAsync(RemoteDestination remote, bool checkOnly, CancellationToken cancellationToken)
    {
        var survey = await TreeSurveyor.SurveyAsync(_tree, _request.CriuPath, cancellationToken).ConfigureAwait(false);
        MemoryBytes = (long)survey.MemoryBytes;
        CriuVersion = survey.CriuVersion;
        var here = await SourceChecks.RunAsync(_tree, _request, _workDirectory, cancellationToken).ConfigureAwait(false);
        Mode = ChooseMode(here);
        var there = await remote.BeginAsync(
            new Begin
            {
                MigrationId = _migrationId,
                CheckOnly = checkOnly,
                Mode = Mode.ToString(),
                Survey = survey,
                Options = ProcessOptionsOnWire.ToMessage(DumpRequest.OptionsOf(_request)),
                KeepImages = _request.KeepImages,
                Durable = _request.Durable,
                AutoDedup = _request.AutoDedup,
                EagerRestore = _request.EagerRestore,
            },
            cancellationToken).ConfigureAwait(false);
        var all = here.Concat(there).ToArray();
        Warnings = all.Where(check => check.Verdict == CheckVerdict.Warning).Select(Sentence).ToArray();
        return all;
    }

    /// <summary>Throws if a check failed, with all failed ones in the message.</summary>
    /// <exception cref="PhaulException">CheckFailed, or the identity of the cause where there is a better one.</exception>
    public void Refuse(IReadOnlyList<CheckResult> checks)
    {
        var failed = checks.Where(check => check.Verdict == CheckVerdict.Failed).ToArray();
        if (failed.Length == 0)
            return;
        var id = failed.Any(check => check.Name == "CriuPresent") ? PhaulErrorId.CriuNotFound : PhaulErrorId.CheckFailed;
        throw new PhaulException(id, string.Join("; ", failed.Select(check => $"{check.Host}: {check.Name}: {check.Message}")))
        {
            Host = failed[0].Host,
            Step = MigrationState.Checking,
            RecommendedAction = string.Join(" ", failed.Select(check => check.Remedy).Where(remedy => remedy is not null).Distinct()) is { Length: > 0 } remedies
                ? remedies
                : null,
        };
    }

    private MigrationMode ChooseMode(IReadOnlyList<CheckResult> checks) => _request.Mode != MigrationMode.Auto
        ? _request.Mode
        : checks.Any(check => check.Name == "DirtyTracking" && check.Verdict == CheckVerdict.Passed) ? MigrationMode.PreCopy : MigrationMode.StopAndCopy;

    private static string Sentence(CheckResult check) =>
        $"{check.Host}: {check.Message}{(check.Remedy is null ? "" : " " + check.Remedy)}";
}
