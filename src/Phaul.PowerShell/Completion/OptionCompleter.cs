// Completes the beginning of -Option: a hashtable with the names that it takes.

using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using Phaul.PowerShell.Parameters;

namespace Phaul.PowerShell.Completion;

/// <summary>Offers one hashtable for each rare option.</summary>
public sealed class OptionCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        RareOptions.Available
            .OrderBy(property => property.Name, StringComparer.Ordinal)
            .Select(property => new CompletionResult(
                $"@{{ {property.Name} = ", property.Name, CompletionResultType.ParameterValue, property.PropertyType.Name))
            .Where(result => result.CompletionText.StartsWith(wordToComplete, StringComparison.OrdinalIgnoreCase));
}
