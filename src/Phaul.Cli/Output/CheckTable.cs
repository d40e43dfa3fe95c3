// Checks as a table.

namespace Phaul.Cli.Output;

/// <summary>Formats checks.</summary>
internal static class CheckTable
{
    /// <summary>One row (with a second line for the remedy, where there is one) a check.</summary>
    public static IEnumerable<string> Rows(IReadOnlyList<CheckResult> checks)
    {
        var hostWidth = checks.Select(check => check.Host.Length).DefaultIfEmpty(0).Max();
        var nameWidth = checks.Select(check => check.Name.Length).DefaultIfEmpty(0).Max();
        foreach (var check in checks)
        {
            var start = $"{check.Verdict,-8} {check.Host.PadRight(hostWidth)}  {check.Name.PadRight(nameWidth)}  ";
            yield return start + check.Message + (check.Remedy is null ? "" : $"\n{new string(' ', start.Length)}-> {check.Remedy}");
        }
    }
}
