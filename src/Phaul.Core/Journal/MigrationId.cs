// The name of a migration: its form, how one is made, and the check that every id passes before it becomes a path.

using System.Globalization;
using System.Security.Cryptography;
using System.Text.RegularExpressions;

namespace Phaul.Journal;

/// <summary>
/// Ids look like <c>20261121T224501Z-7f3a9c01</c>: the second in UTC, then eight hex digits, of which the first three are the
/// fraction of the second in 1/4096 and the rest is random. So ids sort by time as plain text.
/// </summary>
public static partial class MigrationId
{
    /// <summary>Makes an id for the present moment.</summary>
    public static string New() => New(DateTimeOffset.UtcNow);

    internal static string New(DateTimeOffset time)
    {
        var utc = time.ToUniversalTime();
        var fraction = (uint)(utc.Ticks % TimeSpan.TicksPerSecond * 4096 / TimeSpan.TicksPerSecond);
        var tail = (fraction << 20) | (uint)RandomNumberGenerator.GetInt32(1 << 20);
        return string.Create(CultureInfo.InvariantCulture, $"{utc:yyyyMMdd'T'HHmmss'Z'}-{tail:x8}");
    }

    /// <summary>Whether a text is a migration id, and so can be part of a path.</summary>
    public static bool IsValid(string? text) => text is not null && Form().IsMatch(text);

    /// <summary>Hands the id back if it is one.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: it is not.</exception>
    public static string Check(string? text) => IsValid(text)
        ? text!
        : throw new PhaulException(PhaulErrorId.InvalidRequest, $"{Shown(text)} is not a migration id.")
        {
            RecommendedAction = "Migration ids look like 20261121T224501Z-7f3a9c01.",
        };

    // A peer may have sent it: it is shown short, and without what a terminal would act upon.
    internal static string Shown(string? text) => text is null
        ? "(nothing)"
        : "'" + string.Concat(text.Take(64).Select(c => char.IsControl(c) ? '?' : c)) + (text.Length > 64 ? "…'" : "'");

    internal static bool IsPrefix(string text) => text.Length is > 0 and <= 25 && PrefixForm().IsMatch(text);

    [GeneratedRegex(@"\A[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Form();

    [GeneratedRegex(@"\A[0-9TZa-f-]+\z", RegexOptions.CultureInvariant)]
    private static partial Regex PrefixForm();
}
