// about_* pages: Markdown to the plain text that Get-Help shows.

using System.Text;

namespace Phaul.HelpBuilder;

/// <summary>Wraps text at 80 columns, indents code, keeps tables and lists.</summary>
internal static class AboutTopic
{
    private const int Width = 80;

    /// <summary>The text of a topic.</summary>
    public static string ToText(string name, string markdown)
    {
        var text = new StringBuilder($"TOPIC\n    {name}\n");
        var paragraph = new List<string>();
        bool code = false;
        foreach (string line in markdown.Split('\n').Append(""))
        {
            if (line.StartsWith("```", StringComparison.Ordinal))
            {
                Flush(text, paragraph);
                code = !code;
                EmptyLine(text);
            }
            else if (code)
            {
                text.Append(("        " + line).TrimEnd()).Append('\n');
            }
            else if (line.StartsWith('#'))
            {
                Flush(text, paragraph);
                string title = line.TrimStart('#').Trim();
                if (title != name)
                {
                    EmptyLine(text);
                    text.Append(title.ToUpperInvariant()).Append('\n');
                }
            }
            else if (line.StartsWith('|'))
            {
                Flush(text, paragraph);
                text.Append("    ").Append(PlainText.Of(line)).Append('\n');
            }
            else if (line.StartsWith("- ", StringComparison.Ordinal) || line.Length == 0)
            {
                Flush(text, paragraph);
                if (line.Length == 0)
                {
                    EmptyLine(text);
                }
                else
                {
                    paragraph.Add(line);
                }
            }
            else
            {
                paragraph.Add(line.Trim());
            }
        }

        return text.ToString().TrimEnd() + "\n";
    }

    private static void EmptyLine(StringBuilder text)
    {
        if (text[^2] != '\n')
        {
            text.Append('\n');
        }
    }

    private static void Flush(StringBuilder text, List<string> paragraph)
    {
        if (paragraph.Count == 0)
        {
            return;
        }

        bool item = paragraph[0].StartsWith("- ", StringComparison.Ordinal);
        int column = 0;
        foreach (string word in PlainText.Of(string.Join(' ', paragraph)).Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            if (column == 0 || column + 1 + word.Length > Width)
            {
                string indent = column == 0 ? "    " : item ? "\n      " : "\n    ";
                text.Append(indent).Append(word);
                column = indent.TrimStart('\n').Length + word.Length;
            }
            else
            {
                text.Append(' ').Append(word);
                column += 1 + word.Length;
            }
        }

        text.Append('\n');
        paragraph.Clear();
    }
}
