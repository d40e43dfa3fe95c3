// One owner's pages in one image directory: written as they arrive, and known by address afterwards.

using Microsoft.Win32.SafeHandles;
using Phaul.Native;

namespace Phaul.Images.Pages;

/// <summary>
/// A pagemap with its pages image. What arrives is gathered and written in few calls; <see cref="Complete"/> writes the pagemap.
/// Not for several threads.
/// </summary>
internal sealed class PageImage : IDisposable
{
    // As many as the kernel takes in one call
    private const int MaxGathered = 1024;
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    private readonly string _directory;
    private readonly FileStream? _pages;
    private PageImage? _parent;
    private readonly List<PagemapRange> _ranges = [];
    private readonly List<PagePiece> _pieces = [];
    private readonly List<ReadOnlyMemory<byte>> _gathered = [];
    private long _gatheredBytes;
    private int _inParent;
    private long _written;

    /// <summary>Makes the pages image.</summary>
    /// <param name="directory">The image directory.</param>
    /// <param name="owner">Whose pages.</param>
    /// <param name="pagesId">The number of the pages image; unique in the directory.</param>
    /// <param name="parent">The same owner's pages in the directory before; null if it has none there.</param>
    /// <exception cref="IOException">It exists, or cannot be made.</exception>
    public PageImage(string directory, PageOwner owner, uint pagesId, PageImage? parent)
    {
        (_directory, Owner, PagesId, _parent) = (directory, owner, pagesId, parent);
        _pages = Create(PagemapImage.NameOfPages(pagesId));
    }

    private PageImage(string directory, PageOwner owner, PageImage? parent)
    {
        (_directory, Owner, _parent) = (directory, owner, parent);
        (PagesId, var ranges) = PagemapImage.Read(Path.Combine(directory, PagemapImage.NameOf(owner)));
        foreach (var (address, pages, flags) in ranges)
            Add(address, pages, flags);
        var file = new FileInfo(Path.Combine(directory, PagemapImage.NameOfPages(PagesId)));
        if (Length > 0 && (!file.Exists || file.Length < Length))
            throw Wrong("fewer pages than their map has");
        LetGo();
    }

    /// <summary>Takes up what CRIU wrote itself: a dump whose lazy pages are on the source still.</summary>
    /// <param name="directory">The image directory.</param>
    /// <param name="owner">Whose pages.</param>
    /// <param name="parent">The same owner's pages in the directory before; null if it has none there.</param>
    /// <exception cref="PhaulException">RestoreFailed or PageTransferFailed: it is damaged, or does not fit its parent.</exception>
    public static PageImage Load(string directory, PageOwner owner, PageImage? parent) => new(directory, owner, parent);

    public PageOwner Owner { get; }

    /// <summary>The number of the pages image.</summary>
    public uint PagesId { get; }

    /// <summary>Whether some of them are in the parent.</summary>
    public bool HasHoles { get; private set; }

    /// <summary>Where the newest contents of every page are, through all parents: ascending. Complete with <see cref="Complete"/>.</summary>
    public IReadOnlyList<PagePiece> Pieces => _pieces;

    /// <summary>Bytes of pages, those included that are gathered.</summary>
    public long Length { get; private set; }

    /// <summary>Enters a range; if it is present, <see cref="Append"/> is to follow with all its bytes.</summary>
    /// <exception cref="PhaulException">PageTransferFailed: it cannot be, or should be in the parent and is not.</exception>
    public void Add(ulong address, ulong pages, PagemapFlags flags)
    {
        if (pages == 0 || address % PageSize != 0 || pages > (ulong.MaxValue - address) / PageSize
            || pages > (ulong)(long.MaxValue - Length) / PageSize)
        {
            throw Wrong($"{pages} pages at 0x{address:x}");
        }

        // What is nowhere would make a hole in the program; what is in both places could be taken from the wrong one
        var isRemote = flags == PagemapFlags.Lazy && _pages is null;
        if (!isRemote && flags is not (PagemapFlags.Present or (PagemapFlags.Present | PagemapFlags.Lazy) or PagemapFlags.InParent))
            throw Wrong($"pages at 0x{address:x} that are {flags}");
        if (_ranges.Count > 0 && address < _ranges[^1].End)
            throw Wrong($"pages at 0x{address:x} after those up to 0x{_ranges[^1].End:x}");
        var range = new PagemapRange(address, pages, flags, Length);
        if (range.IsPresent)
        {
            _pieces.Add(new PagePiece(address, pages, flags.HasFlag(PagemapFlags.Lazy), this, Length));
            Length += (long)(pages * PageSize);
        }
        else if (isRemote)
        {
            _pieces.Add(new PagePiece(address, pages, MayBeLate: true, this, PagePiece.Remote));
        }
        else
        {
            HasHoles = true;
            TakeFromParent(range);
        }

        _ranges.Add(range);
    }

    /// <summary>Takes bytes of the last range. They must stay as they are until <see cref="Flush"/>.</summary>
    /// <exception cref="IOException">The file system failed.</exception>
    public void Append(ReadOnlyMemory<byte> bytes)
    {
        _gathered.Add(bytes);
        _gatheredBytes += bytes.Length;
        if (_gathered.Count == MaxGathered)
            Flush();
    }

    /// <summary>Writes what was gathered.</summary>
    /// <exception cref="IOException">The file system failed.</exception>
    public void Flush()
    {
        if (_gathered.Count == 0)
            return;
        RandomAccess.Write(_pages!.SafeFileHandle, _gathered, _written);
        _written += _gatheredBytes;
        _gatheredBytes = 0;
        _gathered.Clear();
    }

    /// <summary>Everything has arrived: writes what is left, and the pagemap.</summary>
    /// <param name="durable">Bring it to disk.</param>
    /// <exception cref="IOException">The file system failed.</exception>
    /// <exception cref="NativeException">It could not be brought to disk.</exception>
    public void Complete(bool durable)
    {
        Flush();
        using (var pagemap = Create(PagemapImage.NameOf(Owner)))
        {
            RandomAccess.Write(pagemap.SafeFileHandle, PagemapImage.Compose(PagesId, _ranges).Span, 0);
            if (durable)
            {
                DirectoryDescriptor.Sync(_pages!.SafeFileHandle);
                DirectoryDescriptor.Sync(pagemap.SafeFileHandle);
            }
        }

        LetGo();
    }

    // From here on only the pieces are asked for, and of the parent's only those that are among them: a program of many
    // processes and iterations has many images
    private void LetGo()
    {
        _pages?.Dispose();
        _ranges.Clear();
        _ranges.TrimExcess();
        _parent?._pieces.Clear();
        _parent?._pieces.TrimExcess();
        _parent = null;
    }

    /// <summary>Gives room back: takes pages, which are here now, out of the earlier images. They read as zeros there.</summary>
    /// <exception cref="NativeException">The file system cannot do that.</exception>
    public void PunchParents(ulong address, ulong pages)
    {
        if (_parent is null)
            return;
        ulong end = address + (pages * PageSize);
        for (int i = PagePiece.IndexOf(_parent.Pieces, address); i < _parent.Pieces.Count && _parent.Pieces[i].Address < end; i++)
        {
            var piece = _parent.Pieces[i].Between(address, end);
            using var file = piece.Image.OpenPages(FileAccess.Write);
            FileHole.Punch(file, piece.Offset, (long)(piece.Pages * PageSize));
        }
    }

    /// <summary>Reads pages that are present here, once it is complete.</summary>
    /// <exception cref="IOException">The file system failed, or the file is shorter than it was.</exception>
    public void Read(long offset, Span<byte> bytes)
    {
        using var pages = OpenPages(FileAccess.Read);
        while (bytes.Length > 0)
        {
            int count = RandomAccess.Read(pages, bytes, offset);
            if (count == 0)
                throw new EndOfStreamException($"{Path.Combine(_directory, PagemapImage.NameOfPages(PagesId))} is shorter than it was written.");
            bytes = bytes[count..];
            offset += count;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _pages?.Dispose();

    // What is missing there is found out now, and not when the program is to be restored
    private void TakeFromParent(PagemapRange range)
    {
        ulong address = range.Address;
        IReadOnlyList<PagePiece> pieces = _parent?.Pieces ?? [];
        // Ranges ascend, and so do the parent's pieces: usually the next one is near
        if (_inParent < pieces.Count && (pieces[_inParent].End <= address || pieces[_inParent].Address > address))
            _inParent = PagePiece.IndexOf(pieces, address);
        for (; address < range.End; _inParent++)
        {
            if (_inParent >= pieces.Count || pieces[_inParent].Address > address)
            {
                // CRIU takes a page for unchanged that PAGEMAP_SCAN does not call soft-dirty; of a mapping that is new, a vDSO for
                // one, it does not (seen with CRIU 4.1.1 on Linux 6.12)
                throw new PhaulException(
                    PhaulErrorId.PageTransferFailed,
                    $"CRIU on the source left out the page of {Owner} at 0x{address:x} as unchanged, but the iteration before has none there: " +
                    "since then the process has probably executed another program")
                {
                    RecommendedAction = "Migrate again when it does not, or with -Mode Prefetch / --mode prefetch, which compares contents.",
                };
            }

            _pieces.Add(pieces[_inParent].Between(address, range.End));
            address = _pieces[^1].End;
            if (pieces[_inParent].End > address)
                break;
        }
    }

    private SafeFileHandle OpenPages(FileAccess access) =>
        File.OpenHandle(Path.Combine(_directory, PagemapImage.NameOfPages(PagesId)), FileMode.Open, access, FileShare.ReadWrite);

    private FileStream Create(string name) => new(Path.Combine(_directory, name), new FileStreamOptions
    {
        Mode = FileMode.CreateNew, // an existing name is an error, and a link is not followed
        Access = FileAccess.ReadWrite,
        Share = FileShare.ReadWrite,
        BufferSize = 0,
        UnixCreateMode = OwnerFile,
    });

    private PhaulException Wrong(string what) =>
        new(PhaulErrorId.PageTransferFailed, $"CRIU on the source sent, of {Owner}, {what}.");
}
