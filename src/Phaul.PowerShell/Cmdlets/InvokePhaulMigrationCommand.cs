// Invoke-PhaulMigration: moves running processes to another host.

using System.Management.Automation;
using Phaul.PowerShell.Engines;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Jobs;
using Phaul.PowerShell.Migrating;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits a PhaulIteration as each is finished and one PhaulMigrationResult last.</summary>
[Cmdlet(
    VerbsLifecycle.Invoke, "PhaulMigration", DefaultParameterSetName = ByIdSet,
    SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High)]
[OutputType(typeof(PhaulIteration), typeof(PhaulMigrationResult), typeof(PhaulMigrationJob))]
public sealed class InvokePhaulMigrationCommand : MigrationCmdlet
{
    private readonly List<MigrationRequest> _forJob = [];
    private readonly List<Task> _running = [];
    private readonly List<MigrationRun> _runs = [];
    private SemaphoreSlim? _slots;

    /// <summary>How many processes are migrated at the same time.</summary>
    [Parameter]
    [ValidateRange(1, 64)]
    public int ThrottleLimit { get; set; } = 1;

    /// <summary>Migrate in a background job.</summary>
    [Parameter]
    public SwitchParameter AsJob { get; set; }

    /// <summary>The name of the job.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? JobName { get; set; }

    /// <summary>An engine of your own for the last step.</summary>
    [Parameter]
    [ValidateNotNull]
    public ScriptBlock? DumpCopyRestore { get; set; }

    /// <summary>Do not ask for confirmation.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        if (AsJob && DumpCopyRestore is not null)
        {
            ThrowTerminatingError(FailureRecord.InvalidParameter(
                "InvalidOption", "A script block of -DumpCopyRestore runs in this pipeline, and cannot be part of a job.",
                "Leave out -AsJob; or put the whole command into Start-ThreadJob.", DumpCopyRestore));
        }

        _slots = new SemaphoreSlim(ThrottleLimit);
    }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        IPhaulLocal? engine = DumpCopyRestore is null ? null : new ScriptedEngine(DumpCopyRestore, Pipeline);
        foreach (MigrationRequest request in Requests().Select(request => request with { Local = engine }))
        {
            MigrationTarget target = MigrationTarget.Of(request);
            if (!MayMigrate(target))
            {
                continue;
            }

            if (AsJob)
            {
                _forJob.Add(request);
            }
            else
            {
                Start(new MigrationRun(request, Streams));
            }
        }
    }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        if (_forJob.Count > 0)
        {
            var job = new PhaulMigrationJob(MyInvocation.Line.Trim(), JobName, _forJob, ThrottleLimit);
            JobRepository.Add(job);
            job.Start();
            WriteObject(job);
        }

        Await(_ => Task.WhenAll(_running));
    }

    private protected override bool MustFinish => _runs.Exists(run => run.IsCommitting);

    private bool MayMigrate(MigrationTarget target)
    {
        // -WhatIf and an explicit -Confirm hold even with -Force
        bool force = Force && !MyInvocation.BoundParameters.ContainsKey("WhatIf") && !MyInvocation.BoundParameters.ContainsKey("Confirm");
        return force || ShouldProcess(target.ToString(), $"Migrate to {target.Destination}");
    }

    // Returns when another may be started: with a ThrottleLimit of 1, when this one has ended
    private void Start(MigrationRun run)
    {
        _slots!.Wait(0);
        _runs.Add(run);
        _running.Add(RunInSlotAsync(run));
        Await(async token =>
        {
            try
            {
                await _slots.WaitAsync(token).ConfigureAwait(false);
                _slots.Release();
            }
            catch (OperationCanceledException)
            {
                await Task.WhenAll(_running).ConfigureAwait(false);
                throw;
            }
        });
        _running.RemoveAll(task => task.IsCompleted);
    }

    private async Task RunInSlotAsync(MigrationRun run)
    {
        try
        {
            await Task.Run(() => run.RunAsync(Stopped)).ConfigureAwait(false);
        }
        finally
        {
            _slots!.Release();
        }
    }
}
