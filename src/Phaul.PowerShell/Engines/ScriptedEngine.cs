// An engine of the operator's own: the script block of -DumpCopyRestore, run where PowerShell runs scripts.

using System.Management.Automation;
using Phaul.Criu;
using Phaul.PowerShell.Cmdlets;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Engines;

/// <summary>Runs the script block on the pipeline's thread. What it throws, and every error in it, puts the program back.</summary>
internal sealed class ScriptedEngine(ScriptBlock script, PipelineMailbox mailbox) : IPhaulLocal
{
    private const int Waiting = 0;
    private const int Begun = 1;
    private const int CalledOff = 2;

    /// <inheritdoc/>
    public async Task DumpCopyRestoreAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default)
    {
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        int state = Waiting;
        var scripted = new PhaulCriu(criu, config, lastClientImagesPath, cancellationToken);
        mailbox.Run(cmdlet =>
        {
            if (Interlocked.CompareExchange(ref state, Begun, Waiting) != Waiting)
            {
                return;
            }

            try
            {
                foreach (PSObject output in ScriptErrors.Stop(script, [scripted, config, lastClientImagesPath]))
                {
                    cmdlet.WriteObject(output);
                }

                ended.TrySetResult();
            }
            catch (Exception failure)
            {
                ended.TrySetException(ScriptErrors.CauseOf(failure));
                if (failure is PipelineStoppedException)
                {
                    throw;
                }
            }
        });
        // One that has begun is waited for: it may have restored the program. What it still wants of CRIU is refused.
        using CancellationTokenRegistration callOff = cancellationToken.Register(() =>
        {
            if (Interlocked.CompareExchange(ref state, CalledOff, Waiting) == Waiting)
            {
                ended.TrySetCanceled(cancellationToken);
            }
        });
        await ended.Task.ConfigureAwait(false);
    }
}
