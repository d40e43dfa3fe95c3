// An engine of the operator's own: the script block of -DumpCopyRestore, run where PowerShell runs scripts.

using System.Management.Automation;
using Phaul.Criu;
using Phaul.PowerShell.Cmdlets;
using Phaul.PowerShell.Streams;

namespace Phaul.PowerShell.Engines;

/// <summary>Runs the script block on the pipeline's thread. What it throws, and every error in it, puts the program back.</summary>
internal sealed class ScriptedEngine(ScriptBlock script, PipelineMailbox mailbox) : IPhaulLocal
{
    /// <inheritdoc/>
    public async Task DumpCopyRestoreAsync(
        CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default)
    {
        var ended = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var scripted = new PhaulCriu(criu, config, lastClientImagesPath, cancellationToken);
        mailbox.Run(cmdlet =>
        {
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
        // A script that is at something else is not waited for; the next thing that it wants of CRIU is refused
        await ended.Task.WaitAsync(cancellationToken).ConfigureAwait(false);
    }
}
