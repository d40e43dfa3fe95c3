// Reading journals: all at once, or following one that is being written. Takes no lock and changes nothing.

using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Microsoft.Win32.SafeHandles;
using Phaul.Native;

namespace Phaul.Journal;

/// <summary>A line of a journal that is complete and wrong.</summary>
/// <param name="Line">Its number, from 1.</param>
/// <param name="Reason">What is wrong with it.</param>
public sealed record JournalCorruption(int Line, string Reason)
{
    internal PhaulException AsException(string path) => new(
        PhaulErrorId.JournalFailed, $"The journal {path} is corrupt in line {Line}: {Reason}.")
    {
        ProgramState = ProgramState.Unknown,
        RecommendedAction = "Look for the program's processes on both hosts, then settle it by hand; see docs/journal.md.",
    };
}

/// <summary>What a journal holds.</summary>
/// <param name="Records">Its records up to the end, or up to where it is corrupt.</param>
/// <param name="Torn">Its last line is incomplete, and was ignored: a write was cut short, or is just happening.</param>
/// <param name="Corruption">Where it is corrupt; null if it is not. Nothing after that was looked at.</param>
/// <param name="NewerVersion">The version of the records that this version of Phaul does not know; null if there are none.</param>
public sealed record JournalContents(IReadOnlyList<JournalRecord> Records, bool Torn, JournalCorruption? Corruption, int? NewerVersion);

/// <summary>Reads journals. Safe at any time, beside a writer in any process.</summary>
public static class JournalReader
{
    private const int PieceBytes = 64 << 10;

    // For what no notification tells: a writer's death, and appends on a network file system.
    private static readonly TimeSpan PollInterval = TimeSpan.FromSeconds(1);

    /// <summary>Reads a journal as far as it is written and right.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: there is no such file, or it cannot be read.</exception>
    public static async Task<JournalContents> ReadAsync(string path, CancellationToken cancellationToken = default)
        => (await ReadWithEndAsync(path, cancellationToken).ConfigureAwait(false)).Contents;

    /// <summary>
    /// Yields the records that are there, then those that are appended, until <see cref="Finished"/> was read or the writer is dead,
    /// and no more records are there.
    /// </summary>
    /// <exception cref="PhaulException">
    /// <see cref="PhaulErrorId.JournalFailed"/>: there is no such file, it cannot be read, or it is corrupt; what comes before the
    /// corruption was yielded.
    /// </exception>
    public static async IAsyncEnumerable<JournalRecord> FollowAsync(
        string path, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        using var file = Open(path);
        using var changes = new FileChanges(path);
        var scanner = new JournalScanner();
        var buffer = new byte[PieceBytes];
        long position = 0;
        var finished = false;
        while (true)
        {
            // Asked before reading: what a dead writer wrote is then all there.
            var writerLives = IsHeld(file, path);
            var records = new List<JournalRecord>();
            position = await ReadOnAsync(file, path, position, buffer, scanner, records, cancellationToken).ConfigureAwait(false);
            if (!writerLives)
                scanner.End(records);
            foreach (var record in records)
            {
                finished |= record is Finished;
                yield return record;
            }

            if (scanner.Corruption is { } corruption)
                throw corruption.AsException(path);
            if (finished || !writerLives)
                yield break;
            await changes.WaitAsync(PollInterval, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Whether a process has the journal open for writing: the migration runs. False if there is no such file.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: it cannot be opened.</exception>
    public static bool IsWriterAlive(string path)
    {
        if (!File.Exists(path))
            return false;
        using var file = Open(path);
        return IsHeld(file, path);
    }

    internal static async Task<(JournalContents Contents, long Sequence, bool Torn)> ReadWithEndAsync(
        string path, CancellationToken cancellationToken)
    {
        using var file = Open(path);
        var scanner = new JournalScanner();
        var records = new List<JournalRecord>();
        await ReadOnAsync(file, path, 0, new byte[PieceBytes], scanner, records, cancellationToken).ConfigureAwait(false);
        var torn = scanner.End(records);
        return (new(records, torn, scanner.Corruption, scanner.NewerVersion), scanner.Sequence, torn);
    }

    private static async Task<long> ReadOnAsync(
        SafeFileHandle file,
        string path,
        long position,
        byte[] buffer,
        JournalScanner scanner,
        List<JournalRecord> records,
        CancellationToken cancellationToken)
    {
        try
        {
            while (scanner.Corruption is null)
            {
                var length = await RandomAccess.ReadAsync(file, buffer, position, cancellationToken).ConfigureAwait(false);
                if (length == 0)
                    break;
                scanner.Take(buffer.AsSpan(0, length), records);
                position += length;
            }

            return position;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw StateDirectory.Failed($"The journal {path} cannot be read", e);
        }
    }

    private static SafeFileHandle Open(string path)
    {
        try
        {
            return File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw StateDirectory.Failed($"The journal {path} cannot be opened", e);
        }
    }

    private static bool IsHeld(SafeFileHandle file, string path)
    {
        try
        {
            return WriterLock.IsHeld(file);
        }
        catch (NativeException e)
        {
            throw StateDirectory.Failed($"Whether {path} is being written cannot be told", e);
        }
    }

    // Changes of one file by inotify; where there is none to be had (their number is limited), only the poll is left.
    private sealed class FileChanges : IDisposable
    {
        private readonly Channel<bool> _changed
            = Channel.CreateBounded<bool>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });

        private readonly FileSystemWatcher? _watcher;

        public FileChanges(string path)
        {
            path = Path.GetFullPath(path);
            FileSystemWatcher? watcher = null;
            try
            {
                watcher = new FileSystemWatcher(Path.GetDirectoryName(path)!, Path.GetFileName(path))
                {
                    NotifyFilter = NotifyFilters.LastWrite | NotifyFilters.Size,
                };
                watcher.Changed += (_, _) => _changed.Writer.TryWrite(true);
                watcher.EnableRaisingEvents = true;
                _watcher = watcher;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
            {
                watcher?.Dispose();
            }
        }

        public async Task WaitAsync(TimeSpan atMost, CancellationToken cancellationToken)
        {
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
            limit.CancelAfter(atMost);
            try
            {
                await _changed.Reader.ReadAsync(limit.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                // Nothing was heard: look all the same.
            }
        }

        public void Dispose() => _watcher?.Dispose();
    }
}
