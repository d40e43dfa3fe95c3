// Times as people write them.

using System.Globalization;
using System.Management.Automation;

namespace Phaul.PowerShell.Parameters;

/// <summary>
/// Lets a TimeSpan parameter take <c>300ms</c>, <c>1.5s</c>, <c>2m</c>, <c>1h</c>, <c>7d</c> and plain numbers as seconds. PowerShell
/// itself would take 5 for five ticks and '5' for five days.
/// </summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class DurationAttribute : ArgumentTransformationAttribute
{
    private static readonly (string Suffix, double Seconds)[] Units =
        [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)];

    /// <inheritdoc/>
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        object value = inputData is PSObject wrapped ? wrapped.BaseObject : inputData;
        // PowerShell has read 7d as the decimal 7, and 2s as a short; what was typed is still known to its conversion to text
        if (value is decimal or short && LanguagePrimitives.TryConvertTo(inputData, out string typed))
        {
            return Parse(typed);
        }

        return value switch
        {
            string text => Parse(text),
            int or long or double or float or uint or ushort or byte =>
                Seconds(Convert.ToDouble(value, CultureInfo.InvariantCulture), value.ToString()!),
            _ => value,
        };
    }

    private static object Parse(string text)
    {
        string trimmed = text.Trim();
        if (double.TryParse(trimmed, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds))
        {
            return Seconds(seconds, text);
        }

        foreach ((string suffix, double unit) in Units)
        {
            if (trimmed.EndsWith(suffix, StringComparison.OrdinalIgnoreCase)
                && double.TryParse(trimmed[..^suffix.Length], NumberStyles.Float, CultureInfo.InvariantCulture, out double count))
            {
                return Seconds(count * unit, text);
            }
        }

        return TimeSpan.TryParse(trimmed, CultureInfo.InvariantCulture, out TimeSpan span)
            ? span
            : throw new ArgumentTransformationMetadataException(
                $"'{text}' is not a time: write 300ms, 1.5s, 2m, 1h, 00:00:02 or a number of seconds.");
    }

    private static TimeSpan Seconds(double seconds, string text) =>
        seconds is >= 0 and < 1e9
            ? TimeSpan.FromSeconds(seconds)
            : throw new ArgumentTransformationMetadataException($"'{text}' is not a time that can be used here.");
}
