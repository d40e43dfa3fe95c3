// Whether packing is worth its time: figures in, decision out.

namespace Phaul.Transport;

/// <summary>The decision, without anything that measures.</summary>
internal static class PackingPolicy
{
    /// <summary>Whether what is packed first arrives sooner. Packing and sending take turns, so their times add up.</summary>
    /// <param name="bytesPerSecond">What the way to the peer takes, encryption included.</param>
    /// <param name="secondsPerByte">What packing costs, for each byte before.</param>
    /// <param name="ratio">How much of a byte is left.</param>
    public static bool IsWorthWhile(double bytesPerSecond, double secondsPerByte, double ratio) =>
        bytesPerSecond > 0 && ratio < 1 && secondsPerByte + (ratio / bytesPerSecond) < 1 / bytesPerSecond;
}
