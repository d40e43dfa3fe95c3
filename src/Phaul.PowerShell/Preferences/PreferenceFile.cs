// Defaults for the cmdlets' parameters out of PhaulPreference.psd1.

using System.Collections;
using System.Collections.ObjectModel;
using System.Management.Automation;
using System.Management.Automation.Language;
using System.Reflection;

namespace Phaul.PowerShell.Preferences;

/// <summary>
/// The preference files: data files of one hashtable, read as data (nothing in them is run). A key is a parameter, for every
/// cmdlet that has it, or <c>Cmdlet:Parameter</c>, which wins. A parameter that is given, or that
/// <c>$PSDefaultParameterValues</c> gives, is left alone.
/// </summary>
internal sealed class PreferenceFile
{
    private const string FileName = "PhaulPreference.psd1";

    private static readonly object Lock = new();
    private static PreferenceFile? _latest;

    private readonly string _signature;
    private readonly List<(string Path, Dictionary<string, object?> Values)> _files = [];
    private readonly List<string> _unusable = [];

    private PreferenceFile(string signature, IEnumerable<string> paths)
    {
        _signature = signature;
        foreach (string path in paths)
        {
            Load(path);
        }
    }

    /// <summary>The files that are read, the one that wins first: $PHAUL_PREFERENCE alone, or the user's and the machine's.</summary>
    public static IReadOnlyList<string> Paths
    {
        get
        {
            if (Environment.GetEnvironmentVariable("PHAUL_PREFERENCE") is { Length: > 0 } named)
            {
                return [named];
            }

            string user = Environment.GetFolderPath(Environment.SpecialFolder.ApplicationData, Environment.SpecialFolderOption.DoNotVerify);
            return [Path.Combine(user, "phaul", FileName), Path.Combine("/etc/phaul", FileName)];
        }
    }

    /// <summary>The preferences as they are on disk now; files that have not changed are not read again.</summary>
    public static PreferenceFile Read()
    {
        var present = Paths.Select(path => new FileInfo(path)).Where(file => file.Exists).ToList();
        string signature = string.Join('\n', present.Select(file => $"{file.FullName}|{file.LastWriteTimeUtc.Ticks}|{file.Length}"));
        lock (Lock)
        {
            return _latest?._signature == signature
                ? _latest
                : _latest = new PreferenceFile(signature, present.Select(file => file.FullName));
        }
    }

    /// <summary>Sets the parameters that were not given.</summary>
    /// <returns>A sentence for each preference that could not be used.</returns>
    public IReadOnlyList<string> ApplyTo(PSCmdlet cmdlet, InvocationInfo invocation)
    {
        if (_files.Count == 0)
        {
            return _unusable;
        }

        var unusable = new List<string>(_unusable);
        foreach (PropertyInfo property in cmdlet.GetType().GetProperties())
        {
            if (property.GetCustomAttributes<ParameterAttribute>().Any()
                && !invocation.BoundParameters.ContainsKey(property.Name)
                && Find(invocation.MyCommand.Name, property.Name) is { } found)
            {
                try
                {
                    property.SetValue(cmdlet, Convert(found.Value, property));
                }
                catch (Exception wrong) when (wrong is PSInvalidCastException or MetadataException)
                {
                    unusable.Add($"'{property.Name}' in {found.Path} was not used: {wrong.Message}");
                }
            }
        }

        return unusable;
    }

    private static object? Convert(object? value, PropertyInfo property)
    {
        if (property.GetCustomAttribute<Parameters.DurationAttribute>() is { } duration)
        {
            value = duration.Transform(null!, value!);
        }

        // A variable is what PowerShell lets validate by attributes outside of a command line
        Collection<Attribute> rules = [.. property.GetCustomAttributes<ValidateArgumentsAttribute>()];
        return new PSVariable(property.Name, LanguagePrimitives.ConvertTo(value, property.PropertyType), ScopedItemOptions.None, rules).Value;
    }

    private (string Path, object? Value)? Find(string command, string parameter)
    {
        foreach ((string path, Dictionary<string, object?> values) in _files)
        {
            if (values.TryGetValue($"{command}:{parameter}", out object? value) || values.TryGetValue(parameter, out value))
            {
                return (path, value);
            }
        }

        return null;
    }

    private void Load(string path)
    {
        try
        {
            ScriptBlockAst script = Parser.ParseFile(path, out _, out ParseError[] errors);
            if (errors.Length > 0)
            {
                throw new InvalidDataException($"line {errors[0].Extent.StartLineNumber}: {errors[0].Message}");
            }

            if (script.EndBlock?.Statements is not
                [PipelineAst { PipelineElements: [CommandExpressionAst { Expression: HashtableAst table }] }])
            {
                throw new InvalidDataException("it is not one hashtable");
            }

            var values = new Dictionary<string, object?>(StringComparer.OrdinalIgnoreCase);
            foreach (DictionaryEntry entry in (Hashtable)table.SafeGetValue())
            {
                values[entry.Key.ToString()!] = entry.Value;
            }

            _files.Add((path, values));
        }
        catch (Exception wrong)
            when (wrong is InvalidDataException or InvalidOperationException or IOException or UnauthorizedAccessException)
        {
            _unusable.Add($"The preferences in {path} were not used: {wrong.Message}");
        }
    }
}
