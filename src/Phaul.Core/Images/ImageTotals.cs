// What an image transfer may use, and what it came to.

namespace Phaul.Images;

/// <summary>What a peer may make us write.</summary>
public sealed record ImageLimits
{
    /// <summary>The most images of one sequence. Default 100,000: a tree of thousands of tasks has about ten each.</summary>
    public int MaxFiles { get; init; } = 100_000;

    /// <summary>The most bytes of one sequence. Default 1 TiB.</summary>
    public long MaxTotalBytes { get; init; } = 1L << 40;

    /// <summary>Bytes that must stay free on the file system. Default 64 MiB.</summary>
    public long MinFreeBytes { get; init; } = 64L << 20;
}

/// <summary>What was moved.</summary>
/// <param name="Count">Images.</param>
/// <param name="Bytes">Bytes of their content.</param>
public readonly record struct ImageTotals(int Count, long Bytes);
