// Markdown's marks taken off: help is shown as plain text.

using System.Text.RegularExpressions;

namespace Phaul.HelpBuilder;

/// <summary>What is left of a paragraph on a terminal.</summary>
internal static partial class PlainText
{
    /// <summary>The text without backquotes, emphasis and link targets; links stay for the section that needs them.</summary>
    public static string Of(string markdown) =>
        LinkOnly().IsMatch(markdown) ? markdown : Link().Replace(Strong().Replace(markdown, "$1"), "$1").Replace("`", "");

    [GeneratedRegex(@"^(\[[^\]]+\]\([^)]*\)\s*)+$")]
    private static partial Regex LinkOnly();

    [GeneratedRegex(@"\[([^\]]+)\]\([^)]*\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"\*\*([^*]+)\*\*")]
    private static partial Regex Strong();
}
