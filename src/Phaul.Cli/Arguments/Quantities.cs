// Options whose values are quantities: sizes, spans of time, numbers within bounds.

using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Numerics;

namespace Phaul.Cli.Arguments;

/// <summary>Makes such options.</summary>
internal static class Quantities
{
    /// <summary>An option for a number of bytes, at least <paramref name="least"/>.</summary>
    public static Option<long?> Size(string name, string description, long least = 0) => new(name)
    {
        Description = description,
        HelpName = "SIZE",
        CustomParser = result =>
        {
            var text = result.Tokens[^1].Value;
            if (!ByteSize.TryParse(text, out var bytes))
                result.AddError($"{name}: '{text}' is not understood, expected {ByteSize.Forms}.");
            else if (bytes < least)
                result.AddError($"{name} must be {least >> 10}K or more.");
            return bytes;
        },
    };

    /// <summary>An option for a span of time.</summary>
    public static Option<TimeSpan?> Span(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "TIME",
        CustomParser = result =>
        {
            var text = result.Tokens[^1].Value;
            if (!Duration.TryParse(text, out var duration))
                result.AddError($"{name}: '{text}' is not understood, expected {Duration.Forms}.");
            return duration;
        },
    };

    /// <summary>An option for a number within bounds.</summary>
    public static Option<T> Number<T>(string name, string description, T usual, T least, T most) where T : struct, INumber<T> => new(name)
    {
        Description = description,
        HelpName = "N",
        DefaultValueFactory = _ => usual,
        CustomParser = result => Parse(result, name, least, most),
    };

    /// <summary>An argument for the pid of a process.</summary>
    /// <param name="description">What the process is.</param>
    /// <param name="required">Whether it must be given.</param>
    public static Argument<int?> Pid(string description, bool required) => new("PID")
    {
        Description = description,
        Arity = required ? ArgumentArity.ExactlyOne : ArgumentArity.ZeroOrOne,
        CustomParser = result => result.Tokens.Count == 0 ? null : Parse(result, "PID", 1, int.MaxValue),
    };

    private static T Parse<T>(ArgumentResult result, string name, T least, T most) where T : struct, INumber<T>
    {
        var text = result.Tokens[^1].Value;
        if (!T.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var value))
            result.AddError($"{name}: '{text}' is not a number.");
        else if (value < least || value > most)
            result.AddError($"{name} must be from {least} to {most}.");
        return value;
    }
}
