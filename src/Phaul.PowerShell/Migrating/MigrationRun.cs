// One migration, from a request to its last record on the streams.

using System.Management.Automation;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Migrating;

/// <summary>How a run ended.</summary>
internal enum RunOutcome
{
    /// <summary>The program runs on the destination; the result is on the streams.</summary>
    Moved,

    /// <summary>It did not move; the error is on the streams.</summary>
    Failed,

    /// <summary>It was stopped; the error on the streams says so.</summary>
    Stopped,
}

/// <summary>Runs a migration for a cmdlet or a job. Never throws: every end is a record.</summary>
internal sealed class MigrationRun(MigrationRequest request, IRecordStreams streams)
{
    /// <summary>What is migrated.</summary>
    public MigrationTarget Target { get; } = MigrationTarget.Of(request);

    private volatile MigrationNarrator? _narrator;

    /// <summary>Whether to end this process now could cost the program.</summary>
    public bool IsCommitting => _narrator is { IsCommitting: true };

    /// <summary>Migrates. Cancelling before the commit rolls back.</summary>
    public async Task<RunOutcome> RunAsync(CancellationToken cancellationToken)
    {
        var narrator = _narrator = new MigrationNarrator(request.Pid, $"Migrating {Target} to {Target.Destination}", streams);
        try
        {
            PhaulMigrationResult result = await new SourceMigration(request, narrator).RunAsync(cancellationToken).ConfigureAwait(false);
            streams.WriteObject(result);
            return RunOutcome.Moved;
        }
        catch (Exception failure)
        {
            // What CRIU said here has been shown line by line; what it said there comes with the failure
            if (failure is PhaulException { Host: { } host } known && host != Environment.MachineName)
            {
                foreach (string line in known.CriuLog)
                {
                    streams.WriteDebug($"criu on {host}: {line}");
                }
            }

            ErrorRecord record = FailureRecord.From(failure, Target);
            streams.WriteError(record);
            return record.CategoryInfo.Category == ErrorCategory.OperationStopped ? RunOutcome.Stopped : RunOutcome.Failed;
        }
        finally
        {
            narrator.End();
            _narrator = null;
        }
    }
}
