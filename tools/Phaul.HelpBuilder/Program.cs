// help-builder SOURCE TARGET: turns every page in SOURCE into help in TARGET. Any mistake in a page fails the build.

using System.Text;
using Phaul.HelpBuilder;

if (args.Length != 2)
{
    Console.Error.WriteLine("usage: Phaul.HelpBuilder <directory of Markdown pages> <directory for help>");
    return 2;
}

try
{
    Directory.CreateDirectory(args[1]);
    var pages = new List<HelpPage>();
    foreach (string path in Directory.EnumerateFiles(args[0], "*.md").Order(StringComparer.Ordinal))
    {
        string name = Path.GetFileNameWithoutExtension(path);
        if (name.StartsWith("about_", StringComparison.Ordinal))
        {
            string text = AboutTopic.ToText(name, File.ReadAllText(path));
            File.WriteAllText(Path.Combine(args[1], name + ".help.txt"), text, new UTF8Encoding(encoderShouldEmitUTF8Identifier: true));
        }
        else if (name.Contains('-'))
        {
            pages.Add(PageReader.Read(path));
        }
    }

    foreach (IGrouping<string, HelpPage> file in pages.GroupBy(page => page.HelpFile))
    {
        Maml.Write(file, Path.Combine(args[1], file.Key));
    }

    return 0;
}
catch (PageException wrong)
{
    Console.Error.WriteLine($"error: {wrong.Message}");
    return 1;
}
