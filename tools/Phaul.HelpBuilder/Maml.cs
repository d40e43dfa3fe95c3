// Writes pages as the XML that Get-Help reads (MAML).

using System.Text;
using System.Xml;

namespace Phaul.HelpBuilder;

/// <summary>A writer of one external help file.</summary>
internal static class Maml
{
    private const string MshNamespace = "http://msh";
    private const string MamlNamespace = "http://schemas.microsoft.com/maml/2004/10";
    private const string CommandNamespace = "http://schemas.microsoft.com/maml/dev/command/2004/10";
    private const string DevNamespace = "http://schemas.microsoft.com/maml/dev/2004/10";

    /// <summary>Writes the pages of one help file.</summary>
    public static void Write(IEnumerable<HelpPage> pages, string path)
    {
        var settings = new XmlWriterSettings { Indent = true, Encoding = new UTF8Encoding(false), NewLineHandling = NewLineHandling.None };
        using XmlWriter xml = XmlWriter.Create(path, settings);
        xml.WriteStartElement("helpItems", MshNamespace);
        xml.WriteAttributeString("schema", "maml");
        foreach (HelpPage page in pages)
        {
            Command(xml, page);
        }

        xml.WriteEndElement();
    }

    private static void Command(XmlWriter xml, HelpPage page)
    {
        xml.WriteStartElement("command", "command", CommandNamespace);
        xml.WriteAttributeString("xmlns", "maml", null, MamlNamespace);
        xml.WriteAttributeString("xmlns", "dev", null, DevNamespace);
        string[] parts = page.Name.Split('-', 2);
        xml.WriteStartElement("details", CommandNamespace);
        xml.WriteElementString("name", CommandNamespace, page.Name);
        xml.WriteElementString("verb", CommandNamespace, parts[0]);
        xml.WriteElementString("noun", CommandNamespace, parts[1]);
        Paragraphs(xml, "description", MamlNamespace, [page.Synopsis]);
        xml.WriteEndElement();
        Paragraphs(xml, "description", MamlNamespace, page.Description);
        Syntax(xml, page);

        xml.WriteStartElement("parameters", CommandNamespace);
        foreach (ParameterEntry parameter in page.Parameters
            .DistinctBy(parameter => parameter.Name)
            .OrderBy(parameter => parameter.Name, StringComparer.Ordinal))
        {
            Parameter(xml, parameter, inSyntax: false);
        }

        xml.WriteEndElement();
        Types(xml, "inputTypes", "inputType", page.Inputs);
        Types(xml, "returnValues", "returnValue", page.Outputs);

        xml.WriteStartElement("alertSet", MamlNamespace);
        Paragraphs(xml, "alert", MamlNamespace, page.Notes);
        xml.WriteEndElement();

        xml.WriteStartElement("examples", CommandNamespace);
        foreach (Example example in page.Examples)
        {
            xml.WriteStartElement("example", CommandNamespace);
            xml.WriteElementString("title", MamlNamespace, $"-------------------------- {example.Title} --------------------------");
            xml.WriteElementString("code", DevNamespace, example.Code);
            Paragraphs(xml, "remarks", DevNamespace, example.Remarks);
            xml.WriteEndElement();
        }

        xml.WriteEndElement();
        xml.WriteStartElement("relatedLinks", CommandNamespace);
        foreach (Link link in page.Links)
        {
            xml.WriteStartElement("navigationLink", MamlNamespace);
            xml.WriteElementString("linkText", MamlNamespace, link.Text);
            xml.WriteElementString("uri", MamlNamespace, link.Uri.StartsWith("http", StringComparison.Ordinal) ? link.Uri : "");
            xml.WriteEndElement();
        }

        xml.WriteEndElement();
        xml.WriteEndElement();
    }

    private static void Syntax(XmlWriter xml, HelpPage page)
    {
        xml.WriteStartElement("syntax", CommandNamespace);
        foreach (SyntaxEntry set in page.Syntax)
        {
            xml.WriteStartElement("syntaxItem", CommandNamespace);
            xml.WriteElementString("name", MamlNamespace, page.Name);
            foreach (ParameterEntry parameter in page.Parameters
                .Where(parameter => parameter.Sets.Contains("(All)") || parameter.Sets.Contains(set.SetName))
                .OrderBy(parameter => int.TryParse(parameter.Position, out int position) ? position : int.MaxValue)
                .ThenByDescending(parameter => parameter.Required)
                .ThenBy(parameter => parameter.Name, StringComparer.Ordinal))
            {
                Parameter(xml, parameter, inSyntax: true);
            }

            xml.WriteEndElement();
        }

        xml.WriteEndElement();
    }

    private static void Parameter(XmlWriter xml, ParameterEntry parameter, bool inSyntax)
    {
        bool isSwitch = parameter.Type == "SwitchParameter";
        xml.WriteStartElement("parameter", CommandNamespace);
        xml.WriteAttributeString("required", parameter.Required ? "true" : "false");
        xml.WriteAttributeString("variableLength", parameter.Type.EndsWith("[]", StringComparison.Ordinal) ? "true" : "false");
        xml.WriteAttributeString("globbing", parameter.Wildcards ? "true" : "false");
        xml.WriteAttributeString("pipelineInput", parameter.PipelineInput);
        xml.WriteAttributeString("position", parameter.Position.ToLowerInvariant());
        xml.WriteAttributeString("aliases", parameter.Aliases.Count == 0 ? "none" : string.Join(", ", parameter.Aliases));
        xml.WriteElementString("name", MamlNamespace, parameter.Name);
        Paragraphs(xml, "description", MamlNamespace, parameter.Description);
        if (parameter.AcceptedValues.Count > 0 && inSyntax)
        {
            xml.WriteStartElement("parameterValueGroup", CommandNamespace);
            foreach (string value in parameter.AcceptedValues)
            {
                xml.WriteStartElement("parameterValue", CommandNamespace);
                xml.WriteAttributeString("required", "false");
                xml.WriteAttributeString("variableLength", "false");
                xml.WriteString(value);
                xml.WriteEndElement();
            }

            xml.WriteEndElement();
        }

        if (!isSwitch || !inSyntax)
        {
            xml.WriteStartElement("parameterValue", CommandNamespace);
            xml.WriteAttributeString("required", isSwitch ? "false" : "true");
            xml.WriteAttributeString("variableLength", "false");
            xml.WriteString(parameter.Type);
            xml.WriteEndElement();
        }

        xml.WriteStartElement("type", DevNamespace);
        xml.WriteElementString("name", MamlNamespace, parameter.Type);
        xml.WriteElementString("uri", MamlNamespace, "");
        xml.WriteEndElement();
        xml.WriteElementString("defaultValue", DevNamespace, parameter.DefaultValue);
        xml.WriteEndElement();
    }

    private static void Types(XmlWriter xml, string list, string item, IReadOnlyList<TypeEntry> types)
    {
        xml.WriteStartElement(list, CommandNamespace);
        foreach (TypeEntry type in types)
        {
            xml.WriteStartElement(item, CommandNamespace);
            xml.WriteStartElement("type", DevNamespace);
            xml.WriteElementString("name", MamlNamespace, type.Type);
            xml.WriteEndElement();
            Paragraphs(xml, "description", MamlNamespace, type.Description);
            xml.WriteEndElement();
        }

        xml.WriteEndElement();
    }

    private static void Paragraphs(XmlWriter xml, string element, string elementNamespace, IReadOnlyList<string> paragraphs)
    {
        xml.WriteStartElement(element, elementNamespace);
        foreach (string paragraph in paragraphs)
        {
            xml.WriteElementString("para", MamlNamespace, paragraph);
        }

        xml.WriteEndElement();
    }
}
