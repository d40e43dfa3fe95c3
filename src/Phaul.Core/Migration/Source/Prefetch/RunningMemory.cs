// Reads the memory of a process that runs on and does not notice.

using Microsoft.Win32.SafeHandles;
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul;

/// <summary>
/// What a process has of its own: pages of private mappings without a file that are in memory. What is swapped out, shared, of a file
/// (hugetlbfs is one, whose pages CRIU never looks for in a parent), or not readable is left to the dump.
/// </summary>
internal sealed class RunningMemory : IDisposable
{
    private const int EntriesAtOnce = 8192;
    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    private readonly int _pid;
    private readonly ProcPagemap _pagemap;
    private readonly SafeFileHandle _memory;

    private RunningMemory(int pid, ProcPagemap pagemap, SafeFileHandle memory) => (_pid, _pagemap, _memory) = (pid, pagemap, memory);

    /// <summary>Pages that are swapped out, as far as <see cref="Runs"/> has come.</summary>
    public long SwappedPages { get; private set; }

    /// <summary>Opens it.</summary>
    /// <returns>Null: it has ended.</returns>
    /// <exception cref="UnauthorizedAccessException">It is not ours to read.</exception>
    public static RunningMemory? TryOpen(int pid)
    {
        ProcPagemap? pagemap = null;
        try
        {
            pagemap = ProcPagemap.Open(pid);
            return new RunningMemory(pid, pagemap, File.OpenHandle($"/proc/{pid}/mem"));
        }
        catch (Exception exception)
        {
            pagemap?.Dispose();
            if (exception is FileNotFoundException or DirectoryNotFoundException)
                return null;
            throw;
        }
    }

    /// <summary>Pages beside each other, ascending, and all of them mapped here alone or none.</summary>
    /// <param name="mostPages">Of one run.</param>
    /// <param name="cancellationToken">Ends it: a mapping can be terabytes of nothing.</param>
    public IEnumerable<(ulong Address, int Pages, bool IsAlone)> Runs(int mostPages, CancellationToken cancellationToken)
    {
        var entries = new ulong[EntriesAtOnce];
        ulong last = 0;
        foreach (var mapping in ProcMapping.Read(ProcFileSystem.Host, _pid).Where(IsOwn))
        {
            // Read in several pieces while it changes, the list may tell of one mapping twice
            var (start, pages, isAlone) = (0UL, 0, false);
            for (ulong at = Math.Max(mapping.Start, last); at < mapping.End;)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int wanted = (int)Math.Min(EntriesAtOnce, (mapping.End - at) / PageSize);
                int count = _pagemap.Read(at, entries.AsSpan(0, wanted));
                if (count == 0)
                    break;
                for (int i = 0; i < count; i++, at += PageSize)
                {
                    ulong entry = entries[i];
                    bool isThere = (entry & (ProcPagemap.Present | ProcPagemap.OfFileOrShared)) == ProcPagemap.Present;
                    bool alone = (entry & ProcPagemap.MappedHereAlone) != 0;
                    SwappedPages += (entry & ProcPagemap.Swapped) != 0 ? 1 : 0;
                    if (pages > 0 && (!isThere || alone != isAlone || pages == mostPages))
                    {
                        yield return (start, pages, isAlone);
                        pages = 0;
                    }

                    if (!isThere)
                        continue;
                    if (pages++ == 0)
                        (start, isAlone) = (at, alone);
                }
            }

            if (pages > 0)
                yield return (start, pages, isAlone);
            last = Math.Max(last, mapping.End);
        }
    }

    /// <summary>Reads, while it goes on writing: what is read of one page may be of two moments.</summary>
    /// <param name="address">Of the first page.</param>
    /// <param name="buffer">Room for whole pages.</param>
    /// <param name="isAlone">
    /// No other process maps them. Of those that a fork has left to several, process_vm_readv(2) would have the kernel make a copy for
    /// each (it pins what it reads, mm/gup.c, gup_must_unshare): they are read through /proc/PID/mem, which takes longer.
    /// </param>
    /// <returns>Bytes, of whole pages from the first on; fewer, or none, where the next is not there any more or cannot be read.</returns>
    /// <exception cref="NativeException">It is not ours to read, or the kernel does not allow it.</exception>
    /// <exception cref="UnauthorizedAccessException">Likewise.</exception>
    public int Read(ulong address, Span<byte> buffer, bool isAlone)
    {
        long count = isAlone ? ReadAlone(address, buffer) : ReadShared(address, buffer);
        return (int)((ulong)count / PageSize * PageSize);
    }

    private unsafe long ReadAlone(ulong address, Span<byte> buffer)
    {
        fixed (byte* to = buffer)
        {
            var local = new Libc.Vector { Base = (nint)to, Length = buffer.Length };
            var remote = new Libc.Vector { Base = (nint)address, Length = buffer.Length };
            nint count = Libc.ProcessRead(_pid, &local, 1, &remote, 1, 0);
            if (count >= 0)
                return count;
        }

        var failure = Libc.Failure($"process_vm_readv({_pid})");
        return failure.Errno is Libc.Efault or Libc.Esrch or Libc.Enomem ? 0 : throw failure;
    }

    private long ReadShared(ulong address, Span<byte> buffer)
    {
        try
        {
            return RandomAccess.Read(_memory, buffer, (long)address);
        }
        catch (IOException)
        {
            // EIO: nothing is mapped there any more
            return 0;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _pagemap.Dispose();
        _memory.Dispose();
    }

    // What the kernel maps by itself ([vdso], [vvar]) is of this host
    private static bool IsOwn(ProcMapping mapping) =>
        mapping is { IsShared: false, Inode: 0 } && mapping.Permissions[0] == 'r' && !mapping.Path.StartsWith("[v", StringComparison.Ordinal);
}
