// Reads one cmdlet's page: the headings that platyPS made usual, and a block of YAML for each parameter.

using System.Text;
using System.Text.RegularExpressions;

namespace Phaul.HelpBuilder;

/// <summary>A reader of pages, line by line.</summary>
internal sealed partial class PageReader
{
    private readonly string _path;
    private readonly string[] _lines;
    private int _at;

    private PageReader(string path)
    {
        _path = Path.GetFileName(path);
        _lines = File.ReadAllLines(path);
    }

    /// <summary>Reads a page.</summary>
    /// <exception cref="PageException">Something in it is not as it should be.</exception>
    public static HelpPage Read(string path) => new PageReader(path).Read();

    private HelpPage Read()
    {
        Dictionary<string, string> header = FrontMatter();
        SkipEmpty();
        string name = Heading(1) ?? throw Wrong("a page begins with '# Verb-Noun'");
        if (name != Path.GetFileNameWithoutExtension(_path))
        {
            throw Wrong($"the page of '{name}' is in the wrong file");
        }

        string? synopsis = null;
        IReadOnlyList<string> description = [], notes = [];
        IReadOnlyList<SyntaxEntry> syntax = [];
        IReadOnlyList<Example> examples = [];
        IReadOnlyList<TypeEntry> inputs = [], outputs = [];
        IReadOnlyList<Link> links = [];
        List<ParameterEntry> parameters = [];
        bool common = false;
        while (SkipEmpty())
        {
            string section = Heading(2) ?? throw Wrong("a section '## ...' was expected");
            switch (section)
            {
                case "SYNOPSIS":
                    synopsis = string.Join(' ', Paragraphs());
                    break;
                case "SYNTAX":
                    syntax = Syntax();
                    break;
                case "DESCRIPTION":
                    description = Paragraphs();
                    break;
                case "EXAMPLES":
                    examples = Examples();
                    break;
                case "PARAMETERS":
                    common = Parameters(parameters);
                    break;
                case "INPUTS":
                    inputs = Types();
                    break;
                case "OUTPUTS":
                    outputs = Types();
                    break;
                case "NOTES":
                    notes = Paragraphs();
                    break;
                case "RELATED LINKS":
                    links = [.. Paragraphs()
                        .SelectMany(text => LinkPattern().Matches(text))
                        .Select(link => new Link(link.Groups[1].Value, link.Groups[2].Value))];
                    break;
                default:
                    throw Wrong($"the section '{section}' is not known");
            }
        }

        return new HelpPage(
            name, header.GetValueOrDefault("external help file") ?? throw Wrong("the header has no 'external help file'"),
            synopsis ?? throw Wrong("there is no SYNOPSIS"),
            description, syntax, examples, parameters, inputs, outputs, notes, links, common);
    }

    private Dictionary<string, string> FrontMatter()
    {
        var header = new Dictionary<string, string>();
        if (_lines.Length == 0 || _lines[_at] != "---")
        {
            throw Wrong("a page begins with a header between '---' lines");
        }

        for (_at++; _at < _lines.Length && _lines[_at] != "---"; _at++)
        {
            string[] pair = _lines[_at].Split(':', 2);
            header[pair[0].Trim()] = pair.Length == 2 ? pair[1].Trim() : "";
        }

        _at++;
        return header;
    }

    private List<SyntaxEntry> Syntax()
    {
        var sets = new List<SyntaxEntry>();
        while (SkipEmpty() && Heading(3) is { } title)
        {
            bool isDefault = title.EndsWith(" (Default)", StringComparison.Ordinal);
            sets.Add(new SyntaxEntry(isDefault ? title[..^" (Default)".Length] : title, isDefault));
            SkipEmpty();
            CodeBlock();
        }

        return sets;
    }

    private List<Example> Examples()
    {
        var examples = new List<Example>();
        while (SkipEmpty() && Heading(3) is { } title)
        {
            var code = new StringBuilder();
            while (SkipEmpty() && _lines[_at].StartsWith("```", StringComparison.Ordinal))
            {
                code.Append(code.Length > 0 ? "\n\n" : "").Append(CodeBlock());
            }

            if (code.Length == 0)
            {
                throw Wrong($"the example '{title}' shows no command");
            }

            examples.Add(new Example(title, code.ToString(), Paragraphs()));
        }

        return examples;
    }

    // True if the page says that there are the common parameters
    private bool Parameters(List<ParameterEntry> parameters)
    {
        bool common = false;
        while (SkipEmpty() && Heading(3) is { } title)
        {
            if (title == "CommonParameters")
            {
                Paragraphs();
                common = true;
                continue;
            }

            if (!title.StartsWith('-'))
            {
                throw Wrong($"a parameter's heading is '### -Name', not '{title}'");
            }

            IReadOnlyList<string> description = Paragraphs();
            bool described = description.Count > 0 && !description[0].StartsWith("{{", StringComparison.Ordinal);
            if (!described)
            {
                throw Wrong($"the parameter {title} is not described");
            }

            do
            {
                parameters.Add(Parameter(title[1..], description));
            }
            while (SkipEmpty() && _lines[_at].StartsWith("```yaml", StringComparison.Ordinal));
        }

        return common;
    }

    private ParameterEntry Parameter(string name, IReadOnlyList<string> description)
    {
        if (!SkipEmpty() || _lines[_at] != "```yaml")
        {
            throw Wrong($"the parameter -{name} has no ```yaml block");
        }

        var values = CodeBlock().Split('\n')
            .Select(line => line.Split(':', 2))
            .ToDictionary(pair => pair[0].Trim(), pair => pair.ElementAtOrDefault(1)?.Trim() ?? "");
        string Value(string key) => values.GetValueOrDefault(key) ?? throw Wrong($"the block of -{name} has no '{key}'");
        IReadOnlyList<string> List(string? text) =>
            (text ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        return new ParameterEntry(
            name, description, Value("Type"), List(Value("Parameter Sets")), List(Value("Aliases")),
            List(values.GetValueOrDefault("Accepted values")), bool.Parse(Value("Required")), Value("Position"), Value("Default value"),
            Value("Accept pipeline input"), bool.Parse(Value("Accept wildcard characters")));
    }

    private List<TypeEntry> Types()
    {
        var types = new List<TypeEntry>();
        while (SkipEmpty() && Heading(3) is { } type)
        {
            types.Add(new TypeEntry(type, Paragraphs()));
        }

        return types;
    }

    // Text up to the next heading or block of YAML. Lists keep their lines; other code stays as it is, indented.
    private List<string> Paragraphs()
    {
        var paragraphs = new List<string>();
        while (SkipEmpty() && !_lines[_at].StartsWith('#') && !_lines[_at].StartsWith("```yaml", StringComparison.Ordinal))
        {
            if (_lines[_at].StartsWith("```", StringComparison.Ordinal))
            {
                paragraphs.Add(string.Join('\n', CodeBlock().Split('\n').Select(line => "    " + line)));
                continue;
            }

            var paragraph = new StringBuilder();
            for (; _at < _lines.Length && IsText(_lines[_at]); _at++)
            {
                string line = _lines[_at];
                bool newLine = line.StartsWith("- ", StringComparison.Ordinal) || line.StartsWith('|') || line.StartsWith('[');
                paragraph.Append(paragraph.Length == 0 ? "" : newLine ? "\n" : " ").Append(line.Trim());
            }

            paragraphs.Add(PlainText.Of(paragraph.ToString()));
        }

        return paragraphs;
    }

    private static bool IsText(string line) =>
        line.Length > 0 && !line.StartsWith('#') && !line.StartsWith("```", StringComparison.Ordinal);

    private string CodeBlock()
    {
        if (!_lines[_at].StartsWith("```", StringComparison.Ordinal))
        {
            throw Wrong("a code block was expected");
        }

        int start = ++_at;
        while (_at < _lines.Length && _lines[_at] != "```")
        {
            _at++;
        }

        if (_at == _lines.Length)
        {
            throw Wrong("a code block has no end");
        }

        return string.Join('\n', _lines[start.._at++]);
    }

    private string? Heading(int level)
    {
        string mark = new string('#', level) + ' ';
        return _at < _lines.Length && _lines[_at].StartsWith(mark, StringComparison.Ordinal) ? _lines[_at++][mark.Length..].Trim() : null;
    }

    private bool SkipEmpty()
    {
        while (_at < _lines.Length && string.IsNullOrWhiteSpace(_lines[_at]))
        {
            _at++;
        }

        return _at < _lines.Length;
    }

    private PageException Wrong(string message) => new(_path, Math.Min(_at + 1, _lines.Length), message);

    [GeneratedRegex(@"\[([^\]]+)\]\(([^)]*)\)")]
    private static partial Regex LinkPattern();
}
