// What the cmdlets that read the state directory have in common.

using System.Management.Automation;
using Phaul.Journal;
using Phaul.PowerShell.Errors;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>The base of Get-PhaulMigration and Get-PhaulIteration.</summary>
public abstract class HistoryCmdlet : PhaulCmdlet
{
    /// <summary>Where the journal and the history of migrations are.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? StateDirectory { get; set; }

    private protected StateDirectory Directory { get; private set; } = null!;

    private protected MigrationHistory History { get; private set; } = null!;

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        Directory = new StateDirectory(StateDirectory is null ? null : GetUnresolvedProviderPathFromPSPath(StateDirectory));
        History = new MigrationHistory(Directory);
    }

    /// <summary>The ids that match a pattern, newest first. A pattern without wildcards that nothing matches is an error.</summary>
    private protected IReadOnlyList<string> Matching(string pattern)
    {
        try
        {
            var wanted = WildcardPattern.Get(pattern, WildcardOptions.IgnoreCase);
            string[] found = [.. Directory.Migrations().Where(wanted.IsMatch)];
            if (found.Length == 0 && !WildcardPattern.ContainsWildcardCharacters(pattern))
            {
                WriteError(NotFoundRecord.Migration(pattern, Directory.Path));
            }

            return found;
        }
        catch (PhaulException failure)
        {
            ThrowTerminatingError(FailureRecord.From(failure, Directory.Path));
            throw;
        }
    }
}
