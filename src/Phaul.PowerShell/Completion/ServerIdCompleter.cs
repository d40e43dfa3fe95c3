// Completes the numbers of this session's servers.

using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using Phaul.PowerShell.Objects;

namespace Phaul.PowerShell.Completion;

/// <summary>Offers the servers that run.</summary>
public sealed class ServerIdCompleter : IArgumentCompleter
{
    /// <inheritdoc/>
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters) =>
        SessionServers.All
            .Where(server => server.Id.ToString().StartsWith(wordToComplete, StringComparison.Ordinal))
            .Select(server => new CompletionResult(
                server.Id.ToString(), $"{server.Id} {server}", CompletionResultType.ParameterValue, $"{server} ({server.State})"));
}
