// Get-PhaulMigration: the history.

using System.Management.Automation;
using Phaul.Journal;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits the migrations of a state directory, running and ended, newest first.</summary>
[Cmdlet(VerbsCommon.Get, "PhaulMigration")]
[OutputType(typeof(MigrationSummary))]
public sealed class GetPhaulMigrationCommand : HistoryCmdlet
{
    private int _left;

    /// <summary>The ids; wildcards may be used.</summary>
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(MigrationIdCompleter))]
    [ValidateNotNullOrEmpty]
    public string[] MigrationId { get; set; } = ["*"];

    /// <summary>Only those in one of these states.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public MigrationState[]? State { get; set; }

    /// <summary>Only those in which this host is the source, or the destination.</summary>
    [Parameter]
    public MigrationSide? Side { get; set; }

    /// <summary>Only those that wait for somebody to settle them.</summary>
    [Parameter]
    public SwitchParameter Unresolved { get; set; }

    /// <summary>Only so many, the newest.</summary>
    [Parameter]
    [ValidateRange(1, int.MaxValue)]
    public int Newest { get; set; } = int.MaxValue;

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        _left = Newest;
    }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (string id in MigrationId.SelectMany(Matching))
        {
            foreach (MigrationSummary summary in AwaitOrTerminate(token => History.ReadAsync(id, token), id).Where(IsWanted))
            {
                if (_left-- <= 0)
                {
                    return;
                }

                WriteObject(summary);
            }
        }
    }

    private bool IsWanted(MigrationSummary summary) =>
        (State is null || (summary.State is { } state && State.Contains(state)))
        && (Side is null || summary.Side == Side)
        && (!Unresolved || summary.NeedsResolution);
}
