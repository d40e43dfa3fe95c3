// The migration of one process as a child job; its streams are what Receive-Job reads.

using System.Management.Automation;
using Phaul.PowerShell.Migrating;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Jobs;

/// <summary>One process of a <see cref="PhaulMigrationJob"/>.</summary>
public sealed class ProcessMigrationJob : Job, IRecordStreams
{
    private const int MaxLines = 20_000;

    private readonly MigrationRun _run;
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private string _status = "waiting";

    internal ProcessMigrationJob(string command, MigrationRequest request)
        : base(command)
    {
        _run = new MigrationRun(request, this);
        Name = _run.Target.ToString();
        PSJobTypeName = nameof(ProcessMigrationJob);
    }

    /// <inheritdoc/>
    public override bool HasMoreData =>
        Output.Count + Error.Count + Warning.Count + Verbose.Count + Debug.Count + Progress.Count > 0;

    /// <inheritdoc/>
    public override string Location => _run.Target.Destination;

    /// <inheritdoc/>
    public override string StatusMessage => $"{_run.Target}: {_status}";

    /// <inheritdoc/>
    public override void StopJob()
    {
        _stop.Cancel();
        ((IAsyncResult)_ended.Task).AsyncWaitHandle.WaitOne(TimeSpan.FromSeconds(60));
    }

    internal async Task RunAsync(CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _stop.Token);
        SetJobState(JobState.Running);
        RunOutcome outcome = await _run.RunAsync(either.Token).ConfigureAwait(false);
        _status = outcome.ToString();
        SetJobState(outcome switch
        {
            RunOutcome.Moved => JobState.Completed,
            RunOutcome.Stopped => JobState.Stopped,
            _ => JobState.Failed,
        });
        _ended.TrySetResult();
    }

    /// <inheritdoc/>
    void IRecordStreams.WriteObject(object record) => Output.Add(PSObject.AsPSObject(record));

    /// <inheritdoc/>
    void IRecordStreams.WriteError(ErrorRecord record) => Error.Add(record);

    /// <inheritdoc/>
    void IRecordStreams.WriteWarning(string text) => Warning.Add(new WarningRecord(text));

    /// <inheritdoc/>
    void IRecordStreams.WriteVerbose(string text)
    {
        if (Verbose.Count < MaxLines)
        {
            Verbose.Add(new VerboseRecord(text));
        }
    }

    /// <inheritdoc/>
    void IRecordStreams.WriteDebug(string text)
    {
        if (Debug.Count < MaxLines)
        {
            Debug.Add(new DebugRecord(text));
        }
    }

    /// <inheritdoc/>
    void IRecordStreams.WriteProgress(ProgressRecord record)
    {
        _status = record.StatusDescription;
        if (Progress.Count < MaxLines)
        {
            Progress.Add(record);
        }
    }
}
