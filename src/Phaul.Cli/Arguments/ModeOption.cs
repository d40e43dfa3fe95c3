// --mode, for the commands that plan or do a migration.

using System.CommandLine;
using System.CommandLine.Parsing;

namespace Phaul.Cli.Arguments;

/// <summary>Makes the option.</summary>
internal static class ModeOption
{
    private static readonly IReadOnlyDictionary<string, MigrationMode> Modes = new Dictionary<string, MigrationMode>
    {
        ["auto"] = MigrationMode.Auto,
        ["stop-and-copy"] = MigrationMode.StopAndCopy,
        ["pre-copy"] = MigrationMode.PreCopy,
        ["prefetch"] = MigrationMode.Prefetch,
        ["post-copy"] = MigrationMode.PostCopy,
        ["hybrid"] = MigrationMode.Hybrid,
    };

    /// <summary>--mode.</summary>
    public static Option<MigrationMode> Create() => new("--mode")
    {
        Description = "How memory moves: auto, stop-and-copy, pre-copy, prefetch, post-copy or hybrid (the last two lose the program if the link is lost before all memory has followed)",
        HelpName = "MODE",
        CustomParser = Parse,
        DefaultValueFactory = _ => MigrationMode.Auto,
    };

    private static MigrationMode Parse(ArgumentResult result)
    {
        // StopAndCopy, as objects and journals spell it, is as good as stop-and-copy
        var text = result.Tokens[^1].Value;
        foreach (var (name, mode) in Modes)
        {
            if (text.Equals(name, StringComparison.OrdinalIgnoreCase) || text.Equals(mode.ToString(), StringComparison.OrdinalIgnoreCase))
                return mode;
        }

        result.AddError($"'{text}' is not a mode: expected one of {string.Join(", ", Modes.Keys)}.");
        return default;
    }
}
