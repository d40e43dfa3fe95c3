// Completes pids, and tells which process each is.

using System.Collections;
using System.Diagnostics;
using System.Management.Automation;
using System.Management.Automation.Language;

namespace Phaul.PowerShell.Completion;

/// <summary>Offers the processes of this host by pid or by the beginning of their name.</summary>
public sealed class ProcessIdCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        foreach (Process process in Process.GetProcesses().OrderBy(process => process.Id))
        {
            using (process)
            {
                string id = process.Id.ToString();
                if (process.Id != Environment.ProcessId
                    && (id.StartsWith(wordToComplete, StringComparison.Ordinal)
                        || process.ProcessName.StartsWith(wordToComplete, StringComparison.OrdinalIgnoreCase)))
                {
                    string shown = $"{id} {process.ProcessName}";
                    yield return new CompletionResult(id, shown, CompletionResultType.ParameterValue, CommandLine(process));
                }
            }
        }
    }

    private static string CommandLine(Process process)
    {
        try
        {
            string line = File.ReadAllText($"/proc/{process.Id}/cmdline").Replace('\0', ' ').Trim();
            return line.Length switch { 0 => process.ProcessName, > 200 => line[..200] + "…", _ => line };
        }
        catch (Exception absent) when (absent is IOException or UnauthorizedAccessException)
        {
            return process.ProcessName;
        }
    }
}
