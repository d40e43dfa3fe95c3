// Test-PhaulMigration: the checks alone.

using System.Management.Automation;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Migrating;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits a CheckResult for every check on both hosts; touches nothing.</summary>
[Cmdlet(VerbsDiagnostic.Test, "PhaulMigration", DefaultParameterSetName = ByIdSet)]
[OutputType(typeof(CheckResult), typeof(bool))]
public sealed class TestPhaulMigrationCommand : MigrationCmdlet
{
    /// <summary>Only whether the migration would be begun.</summary>
    [Parameter]
    public SwitchParameter Quiet { get; set; }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        foreach (MigrationRequest request in Requests())
        {
            MigrationTarget target = MigrationTarget.Of(request);
            try
            {
                var narrator = new MigrationNarrator(request.Pid, $"Checking {target} and {target.Destination}", Streams);
                IReadOnlyList<CheckResult> checks = Await(async token =>
                {
                    try
                    {
                        return await new SourceMigration(request, narrator).CheckAsync(token).ConfigureAwait(false);
                    }
                    finally
                    {
                        narrator.End();
                    }
                });
                if (Quiet)
                {
                    WriteObject(checks.All(check => check.Verdict != CheckVerdict.Failed));
                }
                else
                {
                    WriteObject(checks, enumerateCollection: true);
                }
            }
            catch (PhaulException failure)
            {
                WriteError(FailureRecord.From(failure, target));
                if (Quiet)
                {
                    WriteObject(false);
                }
            }
        }
    }
}
