// What a dump or pre-dump measured of itself.
namespace Phaul.Images;

/// <summary>What CRIU measured of one dump or pre-dump. Pages are of the host's page size, 4,096 bytes on x86-64.</summary>
public sealed record DumpStatistics
{
    /// <summary>How long it took to freeze the tree.</summary>
    public TimeSpan FreezingTime { get; init; }

    /// <summary>How long the tree was frozen, up to the end of the dump proper; not how long a handler then held it.</summary>
    public TimeSpan FrozenTime { get; init; }

    /// <summary>How long it took to collect the memory inside the tree.</summary>
    public TimeSpan MemoryDumpTime { get; init; }

    /// <summary>How long it took to write or send the memory.</summary>
    public TimeSpan MemoryWriteTime { get; init; }

    /// <summary>How long it took to find files by inode.</summary>
    public TimeSpan IrmapResolveTime { get; init; }

    /// <summary>Pages of private memory that were looked at.</summary>
    public long PagesScanned { get; init; }

    /// <summary>Pages of private memory that the parent images have already.</summary>
    public long PagesSkippedParent { get; init; }

    /// <summary>Pages of private memory that were written or sent.</summary>
    public long PagesWritten { get; init; }

    /// <summary>Pages that were left to be fetched later.</summary>
    public long PagesLazy { get; init; }

    /// <summary>Pipes that carried pages.</summary>
    public long PagePipes { get; init; }

    /// <summary>Buffers in those pipes.</summary>
    public long PagePipeBuffers { get; init; }

    /// <summary>Pages of shared memory that were looked at.</summary>
    public long SharedPagesScanned { get; init; }

    /// <summary>Pages of shared memory that the parent images have already.</summary>
    public long SharedPagesSkippedParent { get; init; }

    /// <summary>Pages of shared memory that were written or sent.</summary>
    public long SharedPagesWritten { get; init; }

    /// <summary>All pages that were looked at.</summary>
    public long TotalPagesScanned => PagesScanned + SharedPagesScanned;

    /// <summary>All pages that the parent images have already.</summary>
    public long TotalPagesSkippedParent => PagesSkippedParent + SharedPagesSkippedParent;

    /// <summary>All pages that were written or sent.</summary>
    public long TotalPagesWritten => PagesWritten + SharedPagesWritten;
}
