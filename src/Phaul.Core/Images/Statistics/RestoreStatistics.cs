// What a restore measured of itself.
namespace Phaul.Images;

/// <summary>What CRIU measured of one restore. Pages are of the host's page size, 4,096 bytes on x86-64.</summary>
public sealed record RestoreStatistics
{
    /// <summary>How long it took to make the processes.</summary>
    public TimeSpan ForkingTime { get; init; }

    /// <summary>How long the restore took.</summary>
    public TimeSpan RestoreTime { get; init; }

    /// <summary>Pages compared with those inherited from a parent process.</summary>
    public long PagesCompared { get; init; }

    /// <summary>Pages that a parent process had the same already.</summary>
    public long PagesSkippedCow { get; init; }

    /// <summary>Pages that were filled in.</summary>
    public long PagesRestored { get; init; }
}
