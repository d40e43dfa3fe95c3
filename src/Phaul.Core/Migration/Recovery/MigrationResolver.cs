// Settling what crashes have left on this host, whichever side of a migration it was.

using System.Runtime.CompilerServices;
using Phaul.Journal;

namespace Phaul;

/// <summary>
/// Looks at migrations that did not end and ends them, by the one fact: is the source tree alive? May be repeated as often as one
/// likes. On the source it looks at the tree and tells the destination; on the destination it asks the server that holds the
/// restored tree, or does it itself where none runs.
/// </summary>
/// <example>
/// <code>
/// await foreach (var resolution in new MigrationResolver(new ResolveOptions { Certificate = mine }).ResolveAllAsync())
///     Console.WriteLine($"{resolution.MigrationId}: {resolution.Found}; {resolution.Done ?? resolution.Remains}");
/// </code>
/// </example>
public sealed class MigrationResolver
{
    private readonly ResolveOptions _options;
    private readonly IProgress<MigrationEvent>? _observer;
    private readonly StateDirectory _stateDirectory;
    private readonly MigrationHistory _history;

    /// <summary>Makes a resolver; nothing is touched yet.</summary>
    /// <param name="options">What it may use.</param>
    /// <param name="observer">Told of what happens meanwhile.</param>
    public MigrationResolver(ResolveOptions options, IProgress<MigrationEvent>? observer = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _observer) = (options, observer);
        _stateDirectory = new StateDirectory(options.StateDirectory);
        _history = new MigrationHistory(_stateDirectory);
    }

    /// <summary>Everything that needs it, oldest first, one after the other. A failure is a resolution that says so.</summary>
    /// <exception cref="PhaulException">
    /// InvalidRequest: the operator's word is for migrations that are named. JournalFailed: the state directory cannot be read.
    /// </exception>
    public async IAsyncEnumerable<MigrationResolution> ResolveAllAsync([EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        if (_options.Word != OperatorWord.None)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, "What became of a source can be said of one migration at a time")
            {
                RecommendedAction = "Name the migration.",
            };
        }

        var summaries = await _history.ReadAsync(cancellationToken).ConfigureAwait(false);
        foreach (var summary in summaries.Where(summary => summary.NeedsResolution || summary.HasLeftovers).Reverse())
            yield return await TryResolveAsync(summary, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>One migration: each side of which this host has a journal, the source first.</summary>
    /// <param name="idOrPrefix">Its id, or the beginning of it.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">InvalidRequest: there is no such migration here, or several.</exception>
    public async Task<IReadOnlyList<MigrationResolution>> ResolveAsync(string idOrPrefix, CancellationToken cancellationToken = default)
    {
        var id = _stateDirectory.Find(idOrPrefix);
        var summaries = id is null ? [] : await _history.ReadAsync(id, cancellationToken).ConfigureAwait(false);
        if (summaries.Count == 0)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, $"There is no migration {idOrPrefix} in {_stateDirectory.Path}")
            {
                RecommendedAction = "See what there is with Get-PhaulMigration / phaul history.",
            };
        }

        var resolutions = new List<MigrationResolution>();
        foreach (var summary in summaries)
            resolutions.Add(await TryResolveAsync(summary, cancellationToken).ConfigureAwait(false));
        return resolutions;
    }

    private async Task<MigrationResolution> TryResolveAsync(MigrationSummary summary, CancellationToken cancellationToken)
    {
        try
        {
            if (summary.Corruption is { } corruption)
            {
                return Resolutions.Of(summary, ResolutionOutcome.Unresolved, $"the journal {summary.JournalPath} is corrupt: {corruption}") with
                {
                    Remains = "Look for the program's processes on both hosts, then settle it by hand; see docs/journal.md.",
                };
            }

            if (summary.HasLeftovers)
                return await Leftovers.RemoveAsync(_stateDirectory, summary, _observer, cancellationToken).ConfigureAwait(false);
            return summary.Side == MigrationSide.Source
                ? await new SourceRecovery(_stateDirectory, _options, _observer).ResolveAsync(summary, cancellationToken).ConfigureAwait(false)
                : await ResolveDestinationAsync(summary, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is not OperationCanceledException || !cancellationToken.IsCancellationRequested)
        {
            var failure = exception as PhaulException;
            return Resolutions.Of(summary, ResolutionOutcome.Unresolved, exception.Message) with
            {
                ProgramState = ProgramState.Unknown,
                Remains = failure?.RecommendedAction ?? "Resolve it again when that is mended.",
            };
        }
    }

    private async Task<MigrationResolution> ResolveDestinationAsync(MigrationSummary summary, CancellationToken cancellationToken)
    {
        if (!summary.NeedsResolution && !summary.IsRunning)
            return Resolutions.Of(summary, ResolutionOutcome.AlreadySettled, $"it ended as {summary.State}");
        // A server keeps what it restores; a command's session may end, and with it what was started in it.
        return await ControlSocket.AskAsync(_stateDirectory, summary.MigrationId, _options.Word, _options.By, cancellationToken).ConfigureAwait(false)
            ?? (JournalReader.IsWriterAlive(summary.JournalPath)
                ? DestinationResolution.InProgress(summary, "another process is at it, and cannot be asked")
                : await DestinationResolution.ResolveAsync(
                    _stateDirectory, _options.CriuPath, followCriuLog: false, summary.MigrationId, _options.Word, _options.By, _observer, cancellationToken)
                    .ConfigureAwait(false));
    }
}
