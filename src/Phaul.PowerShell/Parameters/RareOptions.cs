// -Option: what the engine can be told beyond the cmdlets' parameters, by the engine's own names.

using System.Collections;
using System.Management.Automation;
using System.Reflection;

namespace Phaul.PowerShell.Parameters;

/// <summary>Sets properties of a request, of its process options and of its convergence rules by name.</summary>
internal static class RareOptions
{
    private static readonly string[] NotOptions = [
        nameof(MigrationRequest.Pid), nameof(MigrationRequest.ProcessStartTime), nameof(MigrationRequest.Destination),
        nameof(MigrationRequest.Options), nameof(MigrationRequest.Convergence), nameof(MigrationRequest.FollowCriuLog)];

    /// <summary>The names that can be given, each with its type.</summary>
    public static IEnumerable<PropertyInfo> Available =>
        typeof(MigrationRequest).GetProperties().Where(property => !NotOptions.Contains(property.Name))
            .Concat(typeof(ProcessOptions).GetProperties())
            .Concat(typeof(ConvergenceOptions).GetProperties())
            .Where(property => property.CanWrite);

    /// <summary>The request with the options set.</summary>
    /// <exception cref="PSArgumentException">A name is not known, or a value cannot be converted.</exception>
    public static MigrationRequest Apply(Hashtable options, MigrationRequest request)
    {
        if (options.Count == 0)
        {
            return request;
        }

        MigrationRequest changed = request with { Options = request.Options with { }, Convergence = request.Convergence with { } };
        foreach (DictionaryEntry option in options)
        {
            string name = option.Key.ToString()!;
            PropertyInfo property = Available.FirstOrDefault(known => known.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                ?? throw new PSArgumentException(
                    $"There is no option '{name}'. There are: {string.Join(", ", Available.Select(known => known.Name).Order())}.");
            object owner = property.DeclaringType == typeof(ProcessOptions) ? changed.Options
                : property.DeclaringType == typeof(ConvergenceOptions) ? changed.Convergence
                : changed;
            property.SetValue(owner, Convert(option.Value, property));
        }

        return changed;
    }

    private static object? Convert(object? value, PropertyInfo property)
    {
        try
        {
            bool isTime = (Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType) == typeof(TimeSpan);
            return LanguagePrimitives.ConvertTo(
                isTime && value is not null ? new DurationAttribute().Transform(null!, value) : value,
                property.PropertyType == typeof(IReadOnlyList<string>) ? typeof(string[]) : property.PropertyType);
        }
        catch (Exception wrong) when (wrong is PSInvalidCastException or ArgumentTransformationMetadataException)
        {
            throw new PSArgumentException($"The option '{property.Name}' cannot be '{value}': {wrong.Message}", wrong);
        }
    }
}
