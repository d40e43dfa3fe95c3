// What -AsJob returns: a PowerShell job with a child job for each process.

using System.Management.Automation;

namespace Phaul.PowerShell.Jobs;

/// <summary>Migrations in the background. Stop-Job rolls back what has not been committed, and returns when that is done.</summary>
public sealed class PhaulMigrationJob : Job
{
    private static readonly TimeSpan RollBackGrace = TimeSpan.FromSeconds(60);

    private readonly CancellationTokenSource _stop = new();
    private readonly int _throttleLimit;
    private Task _run = Task.CompletedTask;

    internal PhaulMigrationJob(string command, string? name, IEnumerable<MigrationRequest> requests, int throttleLimit)
        : base(command, name)
    {
        _throttleLimit = throttleLimit;
        PSJobTypeName = nameof(PhaulMigrationJob);
        foreach (MigrationRequest request in requests)
        {
            ChildJobs.Add(new ProcessMigrationJob(command, request));
        }
    }

    /// <inheritdoc/>
    public override bool HasMoreData => ChildJobs.Any(child => child.HasMoreData);

    /// <inheritdoc/>
    public override string Location => string.Join(", ", ChildJobs.Select(child => child.Location).Distinct());

    /// <inheritdoc/>
    public override string StatusMessage => string.Join("; ", ChildJobs.Select(child => child.StatusMessage));

    /// <inheritdoc/>
    public override void StopJob()
    {
        if (JobStateInfo.State is JobState.Running)
        {
            SetJobState(JobState.Stopping);
            Cancel();
        }

        // Waited for here because Stop-Job promises that the job has stopped when it returns
        ((IAsyncResult)_run).AsyncWaitHandle.WaitOne(RollBackGrace);
    }

    internal void Start()
    {
        SetJobState(JobState.Running);
        _run = Task.Run(RunAsync);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Cancel();
        }

        base.Dispose(disposing);
    }

    private void Cancel() => _stop.Cancel();

    private async Task RunAsync()
    {
        using var slots = new SemaphoreSlim(_throttleLimit);
        await Task.WhenAll(ChildJobs.Cast<ProcessMigrationJob>().ToList().Select(async child =>
        {
            await slots.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                await child.RunAsync(_stop.Token).ConfigureAwait(false);
            }
            finally
            {
                slots.Release();
            }
        })).ConfigureAwait(false);

        IEnumerable<JobState> ends = ChildJobs.Select(child => child.JobStateInfo.State).ToList();
        SetJobState(
            ends.Contains(JobState.Stopped) ? JobState.Stopped
            : ends.Contains(JobState.Failed) ? JobState.Failed
            : JobState.Completed);
    }
}
