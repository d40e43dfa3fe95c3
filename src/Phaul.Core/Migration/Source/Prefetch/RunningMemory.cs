// Reads the memory of a process that runs on and does not notice.

using System.Buffers.Binary;
using Microsoft.Win32.SafeHandles;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul;

/// <summary>
/// What a process has of its own: pages of private mappings that are in memory and not a file's. Those that are swapped out, shared, or
/// that only CRIU can read are left to the dump.
/// </summary>
internal sealed class RunningMemory : IDisposable
{
    private const int EntrySize = sizeof(ulong); // of a page in /proc/PID/pagemap
    private const int EntriesAtOnce = 8192;

    // Documentation/admin-guide/mm/pagemap.rst
    private const ulong Present = 1UL << 63;
    private const ulong OfFileOrShared = 1UL << 61;
    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    private readonly int _pid;
    private readonly SafeFileHandle _pagemap;

    private RunningMemory(int pid, SafeFileHandle pagemap) => (_pid, _pagemap) = (pid, pagemap);

    /// <summary>Opens it.</summary>
    /// <returns>Null: it has ended.</returns>
    /// <exception cref="UnauthorizedAccessException">It is not ours to read.</exception>
    public static RunningMemory? TryOpen(int pid)
    {
        try
        {
            return new RunningMemory(pid, File.OpenHandle($"/proc/{pid}/pagemap"));
        }
        catch (Exception exception) when (exception is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    /// <summary>Pages beside each other, ascending.</summary>
    /// <param name="mostPages">Of one run.</param>
    public IEnumerable<(ulong Address, int Pages)> Runs(int mostPages)
    {
        var entries = new byte[EntriesAtOnce * EntrySize];
        foreach (var mapping in ProcMapping.Read(ProcFileSystem.Host, _pid).Where(IsOwn))
        {
            var (start, pages) = (mapping.Start, 0);
            for (ulong at = mapping.Start; at < mapping.End;)
            {
                int wanted = (int)Math.Min(EntriesAtOnce, (mapping.End - at) / PageSize);
                int count = RandomAccess.Read(_pagemap, entries.AsSpan(0, wanted * EntrySize), (long)(at / PageSize * EntrySize)) / EntrySize;
                if (count == 0)
                    break;
                for (int i = 0; i < count; i++, at += PageSize)
                {
                    if ((BinaryPrimitives.ReadUInt64LittleEndian(entries.AsSpan(i * EntrySize)) & (Present | OfFileOrShared)) == Present)
                    {
                        if (pages == 0)
                            start = at;
                        if (++pages < mostPages)
                            continue;
                    }

                    if (pages > 0)
                        yield return (start, pages);
                    pages = 0;
                }
            }

            if (pages > 0)
                yield return (start, pages);
        }
    }

    /// <summary>Reads, while it goes on writing: what is read of one page may be of two moments.</summary>
    /// <returns>Bytes, of whole pages from the first on; fewer, or none, where the rest is not there any more or cannot be read.</returns>
    /// <exception cref="NativeException">It is not ours to read, or the kernel does not allow it.</exception>
    public unsafe int Read(ulong address, Span<byte> buffer)
    {
        fixed (byte* to = buffer)
        {
            var local = new Libc.Vector { Base = (nint)to, Length = buffer.Length };
            var remote = new Libc.Vector { Base = (nint)address, Length = buffer.Length };
            nint count = Libc.ProcessRead(_pid, &local, 1, &remote, 1, 0);
            if (count >= 0)
                return (int)((ulong)count / PageSize * PageSize);
        }

        var failure = Libc.Failure($"process_vm_readv({_pid})");
        return failure.Errno is Libc.Efault or Libc.Esrch or Libc.Enomem ? 0 : throw failure;
    }

    /// <inheritdoc/>
    public void Dispose() => _pagemap.Dispose();

    // Huge pages of hugetlbfs are CRIU's to dump, and what the kernel maps by itself is of this host
    private static bool IsOwn(ProcMapping mapping) =>
        !mapping.IsShared && mapping.Permissions[0] == 'r' && !mapping.Path.StartsWith("[v", StringComparison.Ordinal)
        && !mapping.Path.StartsWith("/anon_hugepage", StringComparison.Ordinal);
}
