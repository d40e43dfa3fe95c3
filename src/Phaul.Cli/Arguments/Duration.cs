// Spans of time as operators write and read them: 500ms, 1m30s, 1.2 s.

using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Phaul.Cli.Arguments;

/// <summary>Spans of time in text.</summary>
internal static class Duration
{
    /// <summary>What <see cref="TryParse"/> takes, for messages.</summary>
    public const string Forms = "numbers with their units (ms, s, m, h), such as 500ms or 1m30s";

    private static readonly TimeSpan Longest = TimeSpan.FromDays(365);

    /// <summary>Reads a span of time. A number without a unit is refused: nobody could tell what was meant.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out TimeSpan? duration)
    {
        duration = null;
        var rest = text.AsSpan().Trim();
        var sum = TimeSpan.Zero;
        if (rest.IsEmpty)
            return false;
        while (!rest.IsEmpty)
        {
            var digits = rest.IndexOfAnyExcept("0123456789.");
            if (digits <= 0)
                return false;
            var afterDigits = rest[digits..];
            var letters = afterDigits.IndexOfAny("0123456789.");
            var unit = letters < 0 ? afterDigits : afterDigits[..letters];
            if (!double.TryParse(rest[..digits], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value))
                return false;
            if (SecondsOf(unit) is not { } seconds || value * seconds > Longest.TotalSeconds)
                return false;
            sum += TimeSpan.FromSeconds(value * seconds);
            if (sum > Longest)
                return false;
            rest = letters < 0 ? [] : afterDigits[letters..];
        }
        duration = sum;
        return true;
    }

    /// <summary>A span with a unit that suits its magnitude.</summary>
    public static string Format(TimeSpan duration) => duration switch
    {
        { TotalSeconds: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{duration.TotalMilliseconds:0} ms"),
        { TotalMinutes: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{duration.TotalSeconds:0.0} s"),
        { TotalHours: < 1 } => string.Create(CultureInfo.InvariantCulture, $"{(int)duration.TotalMinutes} min {duration.Seconds} s"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{(long)duration.TotalHours} h {duration.Minutes} min"),
    };

    private static double? SecondsOf(ReadOnlySpan<char> unit) => unit switch
    {
        "ms" => 0.001,
        "s" => 1,
        "m" or "min" => 60,
        "h" => 3600,
        _ => null,
    };
}
