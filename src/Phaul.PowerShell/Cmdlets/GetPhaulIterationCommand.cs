// Get-PhaulIteration: what each iteration of a migration did.

using System.Management.Automation;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits the iterations of running and finished migrations, of this session or of another, on either host.</summary>
[Cmdlet(VerbsCommon.Get, "PhaulIteration", DefaultParameterSetName = ByIdSet)]
[OutputType(typeof(PhaulIteration))]
public sealed class GetPhaulIterationCommand : HistoryCmdlet
{
    private const string ByIdSet = "MigrationId";
    private const string LastSet = "Last";

    /// <summary>The ids; wildcards may be used.</summary>
    [Parameter(
        Mandatory = true, Position = 0, ParameterSetName = ByIdSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(MigrationIdCompleter))]
    [ValidateNotNullOrEmpty]
    public string[] MigrationId { get; set; } = [];

    /// <summary>The newest migration.</summary>
    [Parameter(Mandatory = true, ParameterSetName = LastSet)]
    public SwitchParameter Last { get; set; }

    /// <summary>Follow a running migration and end with it.</summary>
    [Parameter]
    public SwitchParameter Wait { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (string id in ParameterSetName == LastSet ? Newest() : MigrationId.SelectMany(Matching))
        {
            try
            {
                Emit(id);
            }
            catch (PhaulException failure)
            {
                WriteError(FailureRecord.From(failure, id));
            }
        }
    }

    private IEnumerable<string> Newest()
    {
        IReadOnlyList<string> all = Matching("*");
        if (all.Count == 0)
        {
            WriteError(NotFoundRecord.AnyMigration(Directory.Path));
        }

        return all.Take(1);
    }

    private void Emit(string id)
    {
        if (!Wait)
        {
            WriteObject(Await(token => History.IterationsAsync(id, cancellationToken: token)), enumerateCollection: true);
            return;
        }

        Await(async token =>
        {
            await foreach (PhaulIteration iteration in History.FollowIterationsAsync(id, cancellationToken: token).ConfigureAwait(false))
            {
                Streams.WriteObject(iteration);
            }
        });
    }
}
