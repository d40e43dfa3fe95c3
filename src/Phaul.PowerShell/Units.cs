// Bytes and times for people. The objects keep numbers and TimeSpans; formats and progress show these.

using System.Globalization;

namespace Phaul.PowerShell;

/// <summary>Called from the module's format file, so that tables read <c>64 MiB</c> and <c>83 ms</c>.</summary>
public static class Units
{
    private static readonly string[] ByteUnits = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

    /// <summary>Three significant digits with a binary unit; empty for null.</summary>
    public static string Bytes(double? bytes)
    {
        if (bytes is not { } value)
        {
            return "";
        }

        int unit = 0;
        while (Math.Abs(value) >= 1000 && unit < ByteUnits.Length - 1)
        {
            value /= 1024;
            unit++;
        }

        return $"{Digits(value)} {ByteUnits[unit]}";
    }

    /// <summary>Bytes a second; empty for null.</summary>
    public static string Rate(double? bytesPerSecond) => bytesPerSecond is null ? "" : Bytes(bytesPerSecond) + "/s";

    /// <summary>The unit that suits: <c>340 µs</c>, <c>83 ms</c>, <c>1.25 s</c>, <c>2:05 min</c>, <c>1:02:05 h</c>.</summary>
    public static string Time(TimeSpan? time) => time switch
    {
        null => "",
        { Ticks: 0 } => "0 ms",
        { TotalMilliseconds: < 1 } => $"{Digits(time.Value.TotalMicroseconds)} µs",
        { TotalSeconds: < 1 } => $"{Digits(time.Value.TotalMilliseconds)} ms",
        { TotalMinutes: < 1 } => $"{Digits(time.Value.TotalSeconds)} s",
        { TotalHours: < 1 } => time.Value.ToString(@"m\:ss", CultureInfo.InvariantCulture) + " min",
        _ => string.Create(CultureInfo.InvariantCulture, $"{(int)time.Value.TotalHours}:{time.Value:mm\\:ss} h"),
    };

    private static string Digits(double value) => Math.Abs(value) switch
    {
        >= 100 => value.ToString("0", CultureInfo.InvariantCulture),
        >= 10 => value.ToString("0.#", CultureInfo.InvariantCulture),
        _ => value.ToString("0.##", CultureInfo.InvariantCulture),
    };
}
