// What all cmdlets of the module have in common: asynchronous work on a pipeline, and defaults from the preference file.

using System.Management.Automation;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Preferences;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>The base of the module's cmdlets.</summary>
public abstract class PhaulCmdlet : PSCmdlet, IDisposable
{
    // A roll-back is a matter of a second or two; a peer that went silent is given up after its own, shorter, time-out.
    private static readonly TimeSpan RollBackGrace = TimeSpan.FromSeconds(60);

    private readonly PipelineMailbox _mailbox = new();
    private readonly CancellationTokenSource _stop = new();

    /// <summary>Cancelled when the pipeline is stopped.</summary>
    private protected CancellationToken Stopped => _stop.Token;

    /// <summary>The streams for work that runs beside the pipeline's thread.</summary>
    private protected IRecordStreams Streams => _mailbox;

    /// <summary>The same, where scripts are to be run as well.</summary>
    private protected PipelineMailbox Pipeline => _mailbox;

    /// <summary>Whether -Debug or $DebugPreference asks for what is worth nothing unless somebody looks for a fault.</summary>
    private protected bool IsDebugging => MyInvocation.BoundParameters.TryGetValue("Debug", out object? given)
        ? LanguagePrimitives.IsTrue(given)
        : LanguagePrimitives.TryConvertTo(GetVariableValue("DebugPreference"), out ActionPreference preference)
            && preference is not (ActionPreference.SilentlyContinue or ActionPreference.Ignore);

    // PowerShell makes -Debug ask at each warning and verbose line whether to go on. A migration does not wait for the answer, and
    // where nobody can be asked, asking would roll it back. So with -Debug alone the one is a debug line, and the other is left out.

    /// <summary>Writes a warning.</summary>
    internal void Warn(string text)
    {
        if (WouldAsk("WarningAction"))
        {
            WriteDebug($"warning: {text}");
        }
        else
        {
            WriteWarning(text);
        }
    }

    /// <summary>Writes a sentence of the story.</summary>
    internal void Tell(string text)
    {
        if (!WouldAsk("Verbose"))
        {
            WriteVerbose(text);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _stop.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        foreach (string unusable in PreferenceFile.Read().ApplyTo(this, MyInvocation))
        {
            Warn(unusable);
        }
    }

    /// <inheritdoc/>
    protected override void StopProcessing()
    {
        try
        {
            _stop.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // Stopped just as it ended by itself
        }
    }

    /// <summary>Whether a stopped pipeline must wait for the work however long that takes.</summary>
    private protected virtual bool MustFinish => false;

    /// <summary>
    /// Waits on the pipeline's thread for work that runs elsewhere, and meanwhile writes what it puts into <see cref="Streams"/>.
    /// When the pipeline stops, the work is cancelled and still waited for.
    /// </summary>
    private protected void Await(Func<CancellationToken, Task> work)
    {
        Task task = Task.Run(() => work(_stop.Token));
        Exception? refusal = _mailbox.WriteUntilCompleted(this, task, _stop, RollBackGrace, () => MustFinish);
        if (refusal is not null)
        {
            // The pipeline's exception is what the user sees; one of the work must not go unobserved for that
            _ = task.ContinueWith(
                static ended => ended.Exception, CancellationToken.None,
                TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            ReportAfterStop(task.IsCompleted);
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(refusal);
        }

        try
        {
            task.GetAwaiter().GetResult();
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            ReportAfterStop(completed: true);
            throw new PipelineStoppedException();
        }
    }

    /// <inheritdoc cref="Await(Func{CancellationToken, Task})"/>
    private protected T Await<T>(Func<CancellationToken, Task<T>> work)
    {
        T? result = default;
        Await(async token => { result = await work(token).ConfigureAwait(false); });
        return result!;
    }

    /// <summary>The same for work whose failure ends the cmdlet.</summary>
    private protected T AwaitOrTerminate<T>(Func<CancellationToken, Task<T>> work, object? target)
    {
        try
        {
            return Await(work);
        }
        catch (PhaulException failure)
        {
            ThrowTerminatingError(FailureRecord.From(failure, target));
            throw;
        }
    }

    private bool WouldAsk(string unlessGiven) =>
        MyInvocation.BoundParameters.TryGetValue("Debug", out object? debug) && LanguagePrimitives.IsTrue(debug)
        && !MyInvocation.BoundParameters.ContainsKey(unlessGiven);

    // PowerShell's streams are closed once the pipeline is stopped. What became of the program is said all the same: on the
    // host, and for errors in $Error, where it is looked for.
    private void ReportAfterStop(bool completed)
    {
        foreach (object record in _mailbox.TakeUnwritten())
        {
            switch (record)
            {
                case ErrorRecord error:
                    (SessionState.PSVariable.GetValue("global:Error") as System.Collections.IList)?.Insert(0, error);
                    Host?.UI?.WriteErrorLine(error.ErrorDetails?.Message ?? error.Exception.Message);
                    break;
                case PhaulMigrationResult { State: MigrationState.Completed } result:
                    Host?.UI?.WriteWarningLine(
                        $"{result.ProcessName ?? "process"} ({result.Pid}) had moved before it could be stopped: "
                        + $"it runs on {result.DestinationHost}.");
                    break;
            }
        }

        if (!completed)
        {
            Host?.UI?.WriteWarningLine(
                $"It has not ended {RollBackGrace.TotalSeconds:0} s after it was stopped. "
                + "Look where the program is with Get-PhaulMigration.");
        }
    }
}
