// Enums cross the wire by name, so that versions can add values without renumbering.

namespace Phaul.Wire;

/// <summary>Reads an enum's name from a message.</summary>
internal static class WireEnum
{
    /// <exception cref="PhaulException">The peer sent something that is no name of <typeparamref name="T"/>.</exception>
    public static T Parse<T>(string name)
        where T : struct, Enum =>
        Enum.TryParse<T>(name, ignoreCase: false, out var value) && Enum.IsDefined(value) && !char.IsAsciiDigit(name[0])
            ? value
            : throw new PhaulException(PhaulErrorId.ProtocolError, $"The peer sent '{Shorten(name)}' as {typeof(T).Name}.");

    private static string Shorten(string text) => text.Length <= 40 ? text : text[..40] + "…";
}
