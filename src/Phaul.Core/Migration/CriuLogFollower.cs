// Follows the logs that CRIU writes for one side of a migration, for observers that asked for every line.

using System.Globalization;
using System.Text;
using Phaul.Criu;

namespace Phaul;

/// <summary>
/// Tells the lines of the logs in a work directory's numbered image directories, in order. It looks twice a second, beside the
/// migration: no step of one waits for it. What is new at the end is told by <see cref="DisposeAsync"/>.
/// </summary>
internal sealed class CriuLogFollower : IAsyncDisposable
{
    private const int LongestRead = 64 * 1024;
    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(500);

    // In one directory only the last two are ever together, and the restore follows the page server's end
    private static readonly string[] Logs = [DumpRequest.PreDumpLog, DumpRequest.DumpLog, RestoreRequest.PageServerLog, RestoreRequest.RestoreLog];

    private readonly string _workDirectory;
    private readonly Action<string> _tell;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _following;
    private readonly long[] _offsets = new long[Logs.Length];
    private readonly byte[] _buffer = new byte[LongestRead];
    private int _directory;
    private int _linesLeft;
    private bool _isDisposed;

    /// <summary>Begins to follow.</summary>
    /// <param name="workDirectory">The directory of the numbered image directories.</param>
    /// <param name="tell">Is given each line, by one thread at a time.</param>
    /// <param name="mostLines">What comes after so many is left out.</param>
    public CriuLogFollower(string workDirectory, Action<string> tell, int mostLines = 100_000)
    {
        (_workDirectory, _tell, _linesLeft) = (workDirectory, tell, mostLines);
        _following = Task.Run(FollowAsync);
    }

    /// <summary>Follows for the observers of a migration; null where nobody asked for it.</summary>
    public static CriuLogFollower? For(MigrationRecorder recorder, string workDirectory, bool isWanted) => isWanted
        ? new CriuLogFollower(
            workDirectory,
            line => recorder.Tell(new CriuLogEvent(recorder.MigrationId, DateTimeOffset.Now, Environment.MachineName, line)))
        : null;

    /// <summary>Tells what is left. The directory may go afterwards.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_isDisposed)
            return;
        _isDisposed = true;
        await _end.CancelAsync().ConfigureAwait(false);
        await _following.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _end.Dispose();
        TellNew(isEnd: true);
    }

    private async Task FollowAsync()
    {
        using var timer = new PeriodicTimer(Interval);
        while (_linesLeft > 0 && await timer.WaitForNextTickAsync(_end.Token).ConfigureAwait(false))
            TellNew(isEnd: false);
    }

    private void TellNew(bool isEnd)
    {
        while (true)
        {
            // Looked for before reading: once there is a next directory, nothing is written into this one any more
            var isFinished = Directory.Exists(PathOf(_directory + 1));
            for (var log = 0; log < Logs.Length; log++)
                TellNew(Path.Combine(PathOf(_directory), Logs[log]), ref _offsets[log], isFinished || isEnd);
            if (!isFinished || _linesLeft <= 0)
                return;
            _directory++;
            Array.Clear(_offsets);
        }
    }

    private void TellNew(string path, ref long offset, bool isFinished)
    {
        try
        {
            if (_linesLeft <= 0 || !File.Exists(path))
                return;
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            // Another restore from the same images begins its log anew
            if (RandomAccess.GetLength(file) < offset)
                offset = 0;
            while (_linesLeft > 0 && RandomAccess.Read(file, _buffer, offset) is > 0 and var read)
            {
                var complete = _buffer.AsSpan(0, read).LastIndexOf((byte)'\n') + 1;
                if (complete == 0)
                {
                    // The end is still being written, or it is no line that anybody would read to its end
                    if (read < _buffer.Length && !isFinished)
                        return;
                    complete = read;
                }

                TellLines(_buffer.AsSpan(0, complete), path);
                offset += complete;
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Gone meanwhile, or not to be read now: the migration does not depend on it
        }
    }

    private void TellLines(ReadOnlySpan<byte> text, string path)
    {
        foreach (var line in Encoding.UTF8.GetString(text).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            if (_linesLeft-- <= 0)
            {
                _tell($"The lines after this one are not shown; {path} has them.");
                return;
            }

            _tell(CriuLog.Shown(line));
        }
    }

    private string PathOf(int directory) => Path.Combine(_workDirectory, directory.ToString(CultureInfo.InvariantCulture));
}
