// /proc/PID/pagemap: which pages of a process are in memory (Documentation/admin-guide/mm/pagemap.rst).

using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Procfs;

/// <summary>A word for each page. The kernel gives the bits below to whoever may look at the process.</summary>
internal sealed class ProcPagemap : IDisposable
{
    public const ulong Present = 1UL << 63;
    public const ulong Swapped = 1UL << 62;
    public const ulong OfFileOrShared = 1UL << 61;
    public const ulong MappedHereAlone = 1UL << 56;

    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    private readonly SafeFileHandle _file;

    private ProcPagemap(SafeFileHandle file) => _file = file;

    /// <summary>Opens it.</summary>
    /// <exception cref="IOException">There is no such process.</exception>
    /// <exception cref="UnauthorizedAccessException">It is not ours to look at.</exception>
    public static ProcPagemap Open(int pid) => new(File.OpenHandle($"/proc/{pid}/pagemap"));

    /// <summary>Reads the words of pages beside each other.</summary>
    /// <param name="address">Of the first.</param>
    /// <param name="entries">As many as there is room for.</param>
    /// <returns>How many; fewer where the address space, or the process, ends.</returns>
    /// <exception cref="IOException">The process has ended.</exception>
    public int Read(ulong address, Span<ulong> entries) =>
        RandomAccess.Read(_file, MemoryMarshal.AsBytes(entries), (long)(address / PageSize * sizeof(ulong))) / sizeof(ulong);

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
