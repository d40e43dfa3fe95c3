// One cmdlet's page, as read from Markdown.

namespace Phaul.HelpBuilder;

/// <summary>A page that cannot be right.</summary>
internal sealed class PageException(string path, int line, string message) : Exception($"{path}({line}): {message}");

/// <summary>A cmdlet's help.</summary>
internal sealed record HelpPage(
    string Name,
    string HelpFile,
    string Synopsis,
    IReadOnlyList<string> Description,
    IReadOnlyList<SyntaxEntry> Syntax,
    IReadOnlyList<Example> Examples,
    IReadOnlyList<ParameterEntry> Parameters,
    IReadOnlyList<TypeEntry> Inputs,
    IReadOnlyList<TypeEntry> Outputs,
    IReadOnlyList<string> Notes,
    IReadOnlyList<Link> Links,
    bool HasCommonParameters);

/// <summary>One parameter set and its name; the default set has <paramref name="IsDefault"/>.</summary>
internal sealed record SyntaxEntry(string SetName, bool IsDefault);

/// <summary>An example: commands (and, where it shows them, their output), then remarks.</summary>
internal sealed record Example(string Title, string Code, IReadOnlyList<string> Remarks);

/// <summary>A parameter; <paramref name="Sets"/> names the sets that have it, "(All)" for all.</summary>
internal sealed record ParameterEntry(
    string Name,
    IReadOnlyList<string> Description,
    string Type,
    IReadOnlyList<string> Sets,
    IReadOnlyList<string> Aliases,
    IReadOnlyList<string> AcceptedValues,
    bool Required,
    string Position,
    string DefaultValue,
    string PipelineInput,
    bool Wildcards);

/// <summary>A type that goes in or comes out, and a word on it.</summary>
internal sealed record TypeEntry(string Type, IReadOnlyList<string> Description);

/// <summary>A related page.</summary>
internal sealed record Link(string Text, string Uri);
