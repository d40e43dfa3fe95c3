// Sizes as operators write and read them: 100M, 1.5GiB, 64.0 MiB.

using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Phaul.Cli.Arguments;

/// <summary>Numbers of bytes in text.</summary>
internal static class ByteSize
{
    private const string Prefixes = "KMGT";

    /// <summary>What <see cref="TryParse"/> takes, for messages.</summary>
    public const string Forms = "a number with K, M, G or T (powers of 1024; KB, MB, GB, TB are powers of 1000), such as 100M";

    /// <summary>Reads a size; a trailing "/s" is allowed, so that rates can be written as such.</summary>
    public static bool TryParse(string text, [NotNullWhen(true)] out long? bytes)
    {
        bytes = null;
        var rest = text.AsSpan().Trim();
        if (rest.EndsWith("/s", StringComparison.Ordinal))
            rest = rest[..^2];
        var digits = rest.IndexOfAnyExcept("0123456789.");
        var number = digits < 0 ? rest : rest[..digits];
        var unit = digits < 0 ? [] : rest[digits..].Trim();
        if (!decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var value) || FactorOf(unit) is not { } factor)
            return false;
        if (value > long.MaxValue / (decimal)factor)
            return false;
        bytes = (long)(value * factor);
        return true;
    }

    /// <summary>A size in MiB with one decimal, whatever its magnitude: columns can then be compared.</summary>
    public static string InMebibytes(double bytes) => (bytes / (1 << 20)).ToString("0.0", CultureInfo.InvariantCulture);

    private static long? FactorOf(ReadOnlySpan<char> unit)
    {
        if (unit is "" or "B")
            return 1;
        var power = Prefixes.IndexOf(char.ToUpperInvariant(unit[0])) + 1;
        if (power == 0)
            return null;
        return unit[1..] switch
        {
            "" or "iB" => 1L << (10 * power),
            "B" => (long)Math.Pow(1000, power),
            _ => null,
        };
    }
}
