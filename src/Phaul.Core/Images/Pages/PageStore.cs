// The destination's page store: where every page of every task is, whatever iteration brought it, for a tree that runs already.

using System.Buffers;
using Phaul.Memory;
using Phaul.Native;

namespace Phaul.Images.Pages;

/// <summary>
/// Images to restore from that leave out what may be late, and the late pages by task and address. Needed where the memory is in a
/// chain of images: `criu lazy-pages` would deliver the last directory's own pages only, and the restore read all the others.
/// </summary>
internal sealed class PageStore
{
    // Copied while the program is frozen; where there is more, CRIU's own restore is as quick
    private const long MostEagerBytes = 256 << 20;
    private const int CopyBuffer = 1 << 20;
    private const ulong LongestRange = 4 << 20;
    private const UnixFileMode OwnerDirectory = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
    private static readonly ulong PageSize = (ulong)Environment.SystemPageSize;

    private readonly Dictionary<ulong, List<PagePiece>> _late = [];
    private bool _leavesNothingOut;

    private PageStore(string directory, RemotePages? remote) => (ImagesDirectory, Remote) = (directory, remote);

    /// <summary>What to restore from. It has no parents.</summary>
    public string ImagesDirectory { get; }

    /// <summary>What is on the source still; null: everything is here.</summary>
    public RemotePages? Remote { get; }

    /// <summary>How many pages are late.</summary>
    public long LatePages => _late.Values.Sum(pieces => pieces.Sum(piece => (long)piece.Pages));

    /// <summary>Makes the images.</summary>
    /// <param name="last">The last iteration, complete; stays the caller's, and must live as long as this.</param>
    /// <param name="directory">To be made, on the same file system as the chain.</param>
    /// <param name="remote">Brings the pages that are on the source still; null if there are none.</param>
    /// <returns>Null: too much of the memory must be there at once for this to be worth while. Never with <paramref name="remote"/>.</returns>
    /// <exception cref="PhaulException">RestoreFailed: an image cannot be used, or made.</exception>
    public static PageStore? Compose(ReceivedIteration last, string directory, RemotePages? remote = null) =>
        Compose(last, new PageStore(directory, remote), remote is null ? MostEagerBytes : long.MaxValue);

    /// <summary>Makes images that leave out nothing and have no parents.</summary>
    /// <param name="last">The last iteration, complete.</param>
    /// <param name="directory">To be made, on the same file system as the chain.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="PhaulException">RestoreFailed: an image cannot be used, or made.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public static PageStore ComposeWhole(ReceivedIteration last, string directory, CancellationToken cancellationToken) =>
        Compose(last, new PageStore(directory, null) { _leavesNothingOut = true }, long.MaxValue, cancellationToken)!;

    private static PageStore? Compose(ReceivedIteration last, PageStore store, long room, CancellationToken cancellationToken = default)
    {
        var directory = store.ImagesDirectory;
        try
        {
            Directory.CreateDirectory(directory, OwnerDirectory);
            var replaced = new HashSet<string> { "parent" };
            long eagerBytes = 0;
            foreach (var image in last.Images)
            {
                if (image.Owner.Kind == PageOwnerKind.SharedMemory && !image.HasHoles)
                    continue;
                replaced.Add(PagemapImage.NameOf(image.Owner));
                replaced.Add(PagemapImage.NameOfPages(image.PagesId));
                eagerBytes += store.Add(image, last.Directory, room - eagerBytes, cancellationToken);
                if (eagerBytes > room)
                    return null;
            }

            foreach (string path in Directory.EnumerateFiles(last.Directory))
            {
                string name = Path.GetFileName(path);
                if (!replaced.Contains(name) && !name.EndsWith(".log", StringComparison.Ordinal))
                    Libc.Check(Libc.Link(path, Path.Combine(directory, name)), $"link({path})");
            }

            return store;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or NativeException)
        {
            throw new PhaulException(
                PhaulErrorId.RestoreFailed, $"Images to restore from could not be made in {directory}: {exception.Message}", exception);
        }
    }

    /// <summary>Where a task's late pages are, ascending.</summary>
    public IEnumerable<LateRange> RangesOf(ulong owner) => _late.TryGetValue(owner, out var pieces)
        ? pieces.Select(piece => new LateRange(piece.Address, piece.End, piece.Address))
        : [];

    /// <summary>Reads late pages: as many as there are beside each other from an address on, and room for, in one place.</summary>
    /// <param name="owner">A task's pid, which is how CRIU names it when it asks.</param>
    /// <param name="address">Of the first.</param>
    /// <param name="buffer">Room for whole pages. It is written to until the task has ended.</param>
    /// <returns>How many bytes; 0: there is no such page. At once, but for pages that are on the source still.</returns>
    /// <exception cref="IOException">The images cannot be read.</exception>
    /// <exception cref="PhaulException">The source does not give its pages any more.</exception>
    public ValueTask<int> ReadAsync(ulong owner, ulong address, Memory<byte> buffer)
    {
        if (!_late.TryGetValue(owner, out var pieces))
            return new(0);
        int length = 0;
        for (int i = PagePiece.IndexOf(pieces, address); i < pieces.Count && pieces[i].Address <= address && length < buffer.Length; i++)
        {
            var piece = pieces[i].Between(address, address + (ulong)(buffer.Length - length));
            int count = (int)(piece.Pages * PageSize);
            if (piece.IsRemote)
                return length > 0 ? new(length) : Remote!.ReadAsync(owner, address, buffer[..count]);
            piece.Image.Read(piece.Offset, buffer.Span.Slice(length, count));
            length += count;
            address = piece.End;
        }

        return new(length);
    }

    /// <summary>Enters an owner's pages: what may be late into the store, the rest into an image.</summary>
    /// <returns>The bytes of the rest, or more than <paramref name="room"/>.</returns>
    private long Add(PageImage image, string lastDirectory, long room, CancellationToken cancellationToken)
    {
        var mappings = image.Owner.Kind == PageOwnerKind.Task && !_leavesNothingOut ? LateMappings.Read(lastDirectory, image.Owner.Id) : [];
        var ranges = new List<PagemapRange>();
        var late = new List<PagePiece>();
        var eager = new List<PagePiece>();
        long eagerBytes = 0;
        foreach (var (piece, isLate) in Split(image.Pieces, mappings))
        {
            if (piece.IsRemote && (!isLate || Remote is null))
                throw new PhaulException(PhaulErrorId.RestoreFailed, $"The pages of {image.Owner} at 0x{piece.Address:x} stayed on the source, but the restore needs them at once");
            (isLate ? late : eager).Add(piece);
            ranges.Add(new PagemapRange(piece.Address, piece.Pages, isLate ? PagemapFlags.Lazy : PagemapFlags.Present, eagerBytes));
            if (!isLate)
                eagerBytes += (long)(piece.Pages * PageSize);
        }

        if (eagerBytes > room)
            return eagerBytes;
        if (late.Count > 0)
            _late.Add(image.Owner.Id, late);
        Copy(eager, PagemapImage.NameOfPages(image.PagesId), cancellationToken);
        using var pagemap = Create(PagemapImage.NameOf(image.Owner));
        pagemap.Write(PagemapImage.Compose(image.PagesId, ranges).Span);
        return eagerBytes;
    }

    private static IEnumerable<(PagePiece Piece, bool IsLate)> Split(IReadOnlyList<PagePiece> pieces, IReadOnlyList<LateMappings.Mapping> mappings)
    {
        int next = 0;
        foreach (var whole in pieces)
        {
            for (ulong from = whole.Address; from < whole.End;)
            {
                while (next < mappings.Count && mappings[next].End <= from)
                    next++;
                bool within = next < mappings.Count && mappings[next].Start <= from;
                ulong to = next == mappings.Count ? whole.End : Math.Min(whole.End, within ? mappings[next].End : mappings[next].Start);
                // The daemon makes room for its longest range, and counts it in an int
                to = Math.Min(to, from + LongestRange);
                yield return (whole.Between(from, to), within && whole.MayBeLate);
                from = to;
            }
        }
    }

    private void Copy(List<PagePiece> pieces, string name, CancellationToken cancellationToken)
    {
        using var pages = Create(name);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(CopyBuffer);
        try
        {
            foreach (var piece in pieces)
            {
                long left = (long)(piece.Pages * PageSize);
                for (long offset = piece.Offset; left > 0;)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var some = buffer.AsSpan(0, (int)Math.Min(left, CopyBuffer));
                    piece.Image.Read(offset, some);
                    pages.Write(some);
                    offset += some.Length;
                    left -= some.Length;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private FileStream Create(string name) => new(Path.Combine(ImagesDirectory, name), new FileStreamOptions
    {
        Mode = FileMode.CreateNew,
        Access = FileAccess.Write,
        BufferSize = 0,
        UnixCreateMode = OwnerFile,
    });
}
