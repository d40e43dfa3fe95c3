// Where a migration's records go: the pipeline of a cmdlet, or the streams of a job.

using System.Management.Automation;

namespace Phaul.PowerShell.Streams;

/// <summary>PowerShell's streams for what a command says. Every member may be called from any thread, and returns at once.</summary>
internal interface IRecordStreams
{
    /// <summary>An object for the next command in the pipeline.</summary>
    void WriteObject(object record);

    /// <summary>A failure that does not end the command.</summary>
    void WriteError(ErrorRecord record);

    /// <summary>What an operator should read although it stopped nothing.</summary>
    void WriteWarning(string text);

    /// <summary>A sentence of the story.</summary>
    void WriteVerbose(string text);

    /// <summary>A line for whoever looks for a fault.</summary>
    void WriteDebug(string text);

    /// <summary>How far it is; only the latest record of an activity matters.</summary>
    void WriteProgress(ProgressRecord record);
}
