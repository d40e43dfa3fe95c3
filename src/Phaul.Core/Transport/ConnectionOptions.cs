// What both ends of a connection can be told, whatever carries it.

namespace Phaul.Transport;

/// <summary>Limits and self-description of one side of a connection.</summary>
public sealed record ConnectionOptions
{
    internal const int LeastWindow = 1 << 20;
    internal const int LargestWindow = 64 << 20;

    /// <summary>A peer that is silent, or takes nothing, for so long is taken for lost. Default 15 s, at least 100 ms.</summary>
    public TimeSpan PeerTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How many bytes the peer may have under way on each data channel; 1 MiB to 64 MiB. Bounds the memory used here.</summary>
    public int Window { get; init; } = 8 << 20;

    /// <summary>What this side can do beyond the protocol version: at most 64 short words.</summary>
    public IReadOnlyList<string> Capabilities { get; init; } = [Lz4Block.Capability];

    /// <summary>The name by which this host introduces itself; null for the system's host name.</summary>
    public string? HostName { get; init; }

    internal int LowestVersion { get; init; } = HelloExchange.LowestVersion;

    internal int HighestVersion { get; init; } = HelloExchange.HighestVersion;

    /// <exception cref="PhaulException">InvalidRequest: something is out of range.</exception>
    internal void Check()
    {
        if (PeerTimeout < TimeSpan.FromMilliseconds(100) || PeerTimeout > TimeSpan.FromDays(1))
            throw new PhaulException(PhaulErrorId.InvalidRequest, "The peer time-out is between 100 ms and one day.");
        if (Window is < LeastWindow or > LargestWindow)
            throw new PhaulException(PhaulErrorId.InvalidRequest, "The window is between 1 MiB and 64 MiB.");
    }
}
