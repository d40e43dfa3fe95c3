// Completes migration ids out of the state directory.

using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using Phaul.Journal;

namespace Phaul.PowerShell.Completion;

/// <summary>Offers the latest migrations, newest first, with what each moved and where to.</summary>
public sealed class MigrationIdCompleter : IArgumentCompleter
{
    private const int AtMost = 50;

    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var directory = new StateDirectory(fakeBoundParameters["StateDirectory"] as string);
        var history = new MigrationHistory(directory);
        foreach (string id in Ids(directory).Where(id => id.StartsWith(wordToComplete, StringComparison.OrdinalIgnoreCase)).Take(AtMost))
        {
            // Completion is asked for on PowerShell's thread and answered at once: the journals are small local files
            MigrationSummary? summary = Task.Run(() => history.ReadAsync(id)).GetAwaiter().GetResult().FirstOrDefault();
            string text = summary is null ? id : $"{summary.ProcessName} ({summary.Pid}) to {summary.DestinationHost}, {summary.State}";
            yield return new CompletionResult(id, id, CompletionResultType.ParameterValue, text);
        }
    }

    private static IReadOnlyList<string> Ids(StateDirectory directory)
    {
        try
        {
            return directory.Migrations();
        }
        catch (PhaulException)
        {
            return [];
        }
    }
}
