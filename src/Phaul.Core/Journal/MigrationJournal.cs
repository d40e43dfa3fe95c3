// The writer of a journal: appends records, one write each, and holds the lock that says it lives.

using Microsoft.Win32.SafeHandles;
using Phaul.Native;

namespace Phaul.Journal;

/// <summary>
/// The journal of one side of a migration, being written. Appends may be called from several tasks; they happen one after another.
/// Nothing that was written is ever changed or cut off.
/// </summary>
public sealed class MigrationJournal : IAsyncDisposable
{
    private const UnixFileMode OwnerReadWrite = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    // The records of a hand-over find their place also when the disk has filled meanwhile.
    private const long ReservedBytes = 64 << 10;

    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly FileStream _file;
    private IReadOnlyList<string> _unsyncedDirectories;
    private long _end;
    private long _sequence;
    private Tail _tail;
    private Exception? _syncFailure;
    private bool _disposed;

    private MigrationJournal(FileStream file, string path, string id, MigrationSide side, IReadOnlyList<string> unsyncedDirectories)
    {
        _file = file;
        Path = path;
        MigrationId = id;
        Side = side;
        _unsyncedDirectories = unsyncedDirectories;
    }

    // What the file ends with, and so what has to stand before the next record.
    private enum Tail
    {
        Newline,
        RecordWithoutNewline,
        TornLine,
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>The migration.</summary>
    public string MigrationId { get; }

    /// <summary>The side whose journal this is.</summary>
    public MigrationSide Side { get; }

    private SafeFileHandle Handle => _file.SafeFileHandle;

    /// <summary>Begins a journal (mode 0600). Its first record has to be <see cref="Begun"/>.</summary>
    /// <exception cref="PhaulException">
    /// <see cref="PhaulErrorId.JournalFailed"/>: there is one already, or it cannot be written.
    /// </exception>
    public static Task<MigrationJournal> CreateAsync(
        StateDirectory directory, string id, MigrationSide side, CancellationToken cancellationToken = default)
        => Task.Run(() => Create(directory, id, side), cancellationToken);

    /// <summary>
    /// Goes on with the journal of a dead writer, and says so in it. A torn last line stays where it is, marked as torn.
    /// </summary>
    /// <exception cref="PhaulException">
    /// <see cref="PhaulErrorId.JournalFailed"/>: there is no such journal, its writer lives, it is corrupt, or a newer version wrote it.
    /// </exception>
    public static async Task<MigrationJournal> OpenForRecoveryAsync(
        StateDirectory directory, string id, MigrationSide side, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(directory);
        var path = directory.JournalPath(id, side);
        FileStream file;
        try
        {
            file = new FileStream(path, new FileStreamOptions
            {
                Mode = FileMode.Open,
                Access = FileAccess.ReadWrite,
                Share = FileShare.ReadWrite | FileShare.Delete,
                BufferSize = 0,
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw StateDirectory.Failed($"The journal {path} cannot be opened", e);
        }

        var journal = new MigrationJournal(file, path, id, side, []);
        try
        {
            await journal.GoOnAsync(cancellationToken).ConfigureAwait(false);
            return journal;
        }
        catch
        {
            await journal.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Appends a record.</summary>
    /// <param name="record">The record; its sequence is given by the journal, its time, too, unless it has one.</param>
    /// <param name="durable">Return only when it and all before it are on the disk, with the names of the file and its directories.</param>
    /// <param name="cancellationToken">
    /// Ends the wait. A write that has begun is not interrupted: the record may still come to be in the journal, as after an exception.
    /// </param>
    /// <exception cref="PhaulException">
    /// <see cref="PhaulErrorId.JournalFailed"/>: it could not be written. The next append may succeed (the disk was full), except that
    /// after a failed sync no durable append does: the kernel does not tell a second time what it lost.
    /// </exception>
    public async Task AppendAsync(JournalRecord record, bool durable = false, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(record);
        await _turn.WaitAsync(cancellationToken).ConfigureAwait(false);
        // The task that writes gives the turn back, so that a caller who stops waiting does not let the next one in between.
        await Task.Run(() => AppendInTurn(record, durable), CancellationToken.None).WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Waits for a write that is under way, closes the file and so gives the lock back.</summary>
    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync().ConfigureAwait(false);
        var isFirst = !_disposed;
        _disposed = true;
        _turn.Release();
        if (isFirst)
            WriterLock.Release(Handle);
        await _file.DisposeAsync().ConfigureAwait(false);
    }

    private static MigrationJournal Create(StateDirectory directory, string id, MigrationSide side)
    {
        ArgumentNullException.ThrowIfNull(directory);
        var path = directory.JournalPath(id, side);
        var directories = directory.CreateMigrationPath(id);
        // Made under another name, locked, and only then given its own (which must be free): nobody ever sees a journal that is
        // being begun without its lock, and takes its writer for dead.
        var unlocked = $"{path}.{Guid.NewGuid():n}.new";
        FileStream? file = null;
        try
        {
            file = new FileStream(unlocked, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.ReadWrite,
                Share = FileShare.ReadWrite | FileShare.Delete,
                BufferSize = 0,
                PreallocationSize = ReservedBytes,
                UnixCreateMode = OwnerReadWrite,
            });
            if (!WriterLock.TryTake(file.SafeFileHandle))
                throw new IOException("somebody else has locked it");
            // Not File.Move: that looks whether the name is free and then renames, and two could begin the same journal.
            Libc.Check(Libc.Link(unlocked, path), "link");
            File.Delete(unlocked);
            return new(file, path, id, side, directories);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NativeException)
        {
            file?.Dispose();
            File.Delete(unlocked);
            throw StateDirectory.Failed($"The journal {path} cannot be begun", e);
        }
    }

    private async Task GoOnAsync(CancellationToken cancellationToken)
    {
        if (!TryLock())
            throw new PhaulException(PhaulErrorId.JournalFailed, $"The journal {Path} is being written: its migration is still running.");

        // Read through a handle of its own: this one's position is nobody's business.
        var (contents, sequence, torn) = await JournalReader.ReadWithEndAsync(Path, cancellationToken).ConfigureAwait(false);
        if (contents.Corruption is { } corruption)
            throw corruption.AsException(Path);
        if (contents.NewerVersion is { } version)
            throw new PhaulException(PhaulErrorId.JournalFailed, $"The journal {Path} was written by a newer Phaul (format {version}).")
            {
                ProgramState = ProgramState.Unknown,
                RecommendedAction = "Use the version of Phaul that wrote it, or a later one.",
            };

        _end = RandomAccess.GetLength(Handle);
        _sequence = sequence;
        if (torn)
            _tail = Tail.TornLine;
        else if (!await EndsWithNewlineAsync(cancellationToken).ConfigureAwait(false))
            _tail = Tail.RecordWithoutNewline;
        if (_sequence > 0)
            await AppendAsync(new Reopened(JournalWriter.Current()), durable: false, cancellationToken).ConfigureAwait(false);
    }

    private bool TryLock()
    {
        try
        {
            return WriterLock.TryTake(Handle);
        }
        catch (NativeException e)
        {
            throw StateDirectory.Failed($"The journal {Path} cannot be locked", e);
        }
    }

    private async Task<bool> EndsWithNewlineAsync(CancellationToken cancellationToken)
    {
        var last = new byte[1];
        return _end == 0
            || (await RandomAccess.ReadAsync(Handle, last, _end - 1, cancellationToken).ConfigureAwait(false) == 1 && last[0] == '\n');
    }

    private void AppendInTurn(JournalRecord record, bool durable)
    {
        try
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (durable && _syncFailure is not null)
                throw new IOException($"an earlier sync failed ({_syncFailure.Message})", _syncFailure);
            Write(Stamped(record));
            if (durable)
                Sync();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NativeException)
        {
            throw StateDirectory.Failed($"The journal {Path} cannot be written", e);
        }
        finally
        {
            _turn.Release();
        }
    }

    private JournalRecord Stamped(JournalRecord record)
    {
        if (_sequence == 0)
        {
            if (record is not Begun begun)
                throw new InvalidOperationException($"The first record of a journal is {nameof(Begun)}, not {record.GetType().Name}.");
            if (begun.Id != MigrationId || begun.Side != Side)
                throw new InvalidOperationException($"{begun.Id}, {begun.Side} does not begin in the journal of {MigrationId}, {Side}.");
            record = begun with { Writer = begun.Writer ?? JournalWriter.Current() };
        }

        return record with
        {
            Sequence = _sequence + 1,
            Time = record.Time == default ? DateTimeOffset.UtcNow : record.Time,
        };
    }

    private void Write(JournalRecord record)
    {
        var line = JournalLine.Encode(record);
        byte[] bytes = _tail switch
        {
            Tail.TornLine => [.. JournalLine.TornMark, (byte)'\n', .. line],
            Tail.RecordWithoutNewline => [(byte)'\n', .. line],
            _ => line,
        };
        try
        {
            RandomAccess.Write(Handle, bytes, _end);
        }
        catch
        {
            FindTheEnd(bytes);
            throw;
        }

        _end += bytes.Length;
        _tail = Tail.Newline;
        _sequence = record.Sequence;
    }

    // A part of the bytes may have been written before the disk was full.
    private void FindTheEnd(byte[] bytes)
    {
        var written = RandomAccess.GetLength(Handle) - _end;
        if (written <= 0)
            return;
        _end += written;
        _tail = bytes[written - 1] == '\n' ? Tail.Newline : Tail.TornLine;
    }

    private void Sync()
    {
        try
        {
            RandomAccess.FlushToDisk(Handle);
            foreach (var directory in _unsyncedDirectories)
                SyncDirectory(directory);
            _unsyncedDirectories = [];
        }
        catch (Exception e)
        {
            _syncFailure = e;
            throw;
        }
    }

    private static void SyncDirectory(string directory)
    {
        try
        {
            DirectoryDescriptor.Sync(directory);
        }
        catch (NativeException e) when (e.Errno == Libc.Einval)
        {
            // A file system that cannot sync directories: there is nothing better to be had from it.
        }
    }
}
