// Brings what asynchronous work says to the pipeline's thread, the only one that may write to PowerShell's streams.

using System.Management.Automation;
using Phaul.PowerShell.Cmdlets;

namespace Phaul.PowerShell.Streams;

/// <summary>
/// Records are put in from any thread, without ever waiting for whoever reads the pipeline: a paused Out-Host must not stall a
/// migration whose program is frozen. Only lines of text can be many; beyond a bound they are dropped and counted.
/// </summary>
internal sealed class PipelineMailbox : IRecordStreams
{
    private const int MaxLines = 20_000;

    // Warnings find room when the story has none
    private const int MaxWarnings = MaxLines + 1000;

    private readonly object _lock = new();
    private readonly SemaphoreSlim _filled = new(0);
    private readonly Dictionary<int, ProgressRecord> _progress = [];
    private readonly List<object> _unwritten = [];
    private Queue<(Action<PhaulCmdlet> Write, object? Keep)> _records = new();
    private int _lines;
    private int _droppedLines;

    /// <inheritdoc/>
    public void WriteObject(object record) => Put(cmdlet => cmdlet.WriteObject(record), record);

    /// <inheritdoc/>
    public void WriteError(ErrorRecord record) => Put(cmdlet => cmdlet.WriteError(record), record);

    /// <inheritdoc/>
    public void WriteWarning(string text) => PutLine(cmdlet => cmdlet.Warn(text), MaxWarnings);

    /// <inheritdoc/>
    public void WriteVerbose(string text) => PutLine(cmdlet => cmdlet.Tell(text));

    /// <inheritdoc/>
    public void WriteDebug(string text) => PutLine(cmdlet => cmdlet.WriteDebug(text));

    /// <inheritdoc/>
    public void WriteProgress(ProgressRecord record)
    {
        lock (_lock)
        {
            _progress[record.ActivityId] = record;
        }

        _filled.Release();
    }

    /// <summary>
    /// Writes what comes until <paramref name="work"/> has ended. When the pipeline stops taking records (Ctrl+C, an
    /// ErrorAction of Stop, Select-Object -First), <paramref name="stop"/> is cancelled and the rest is no longer written, but
    /// the work is still waited for: it has to put the program back first.
    /// </summary>
    /// <param name="cmdlet">The cmdlet whose pipeline thread this is.</param>
    /// <param name="work">The work; how it ended is for the caller to look at.</param>
    /// <param name="stop">Cancels the work; also cancelled by the cmdlet when PowerShell stops it.</param>
    /// <param name="grace">How long the work may take from the cancellation on before it is abandoned.</param>
    /// <param name="mustFinish">As long as this is so, it is not abandoned.</param>
    /// <returns>Null, or what the pipeline threw; to be thrown again.</returns>
    public Exception? WriteUntilCompleted(PhaulCmdlet cmdlet, Task work, CancellationTokenSource stop, TimeSpan grace, Func<bool> mustFinish)
    {
        Exception? refusal = null;
        long? deadline = null;
        work.ContinueWith(
            _ => _filled.Release(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        using CancellationTokenRegistration wake = stop.Token.Register(() => _filled.Release());
        while (true)
        {
            bool completed = work.IsCompleted;
            refusal ??= TryWrite(cmdlet);
            if (completed)
            {
                return refusal;
            }

            if (deadline is null && (refusal is not null || stop.IsCancellationRequested))
            {
                deadline = Environment.TickCount64 + (long)grace.TotalMilliseconds;
                stop.Cancel();
            }

            long wait = deadline is { } end ? end - Environment.TickCount64 : Timeout.Infinite;
            if (deadline is not null && wait <= 0 && mustFinish())
            {
                deadline += (long)grace.TotalMilliseconds;
                continue;
            }

            if (deadline is not null && wait <= 0)
            {
                return refusal ?? new PipelineStoppedException();
            }

            _filled.Wait((int)wait);
        }
    }

    /// <summary>The objects and error records that came too late for the pipeline; each is given once.</summary>
    public IReadOnlyList<object> TakeUnwritten()
    {
        lock (_lock)
        {
            object[] unwritten = [.. _unwritten, .. _records.Select(record => record.Keep).OfType<object>()];
            _unwritten.Clear();
            _records.Clear();
            return unwritten;
        }
    }

    /// <summary>Has the pipeline's thread run something else than a record: a script block.</summary>
    public void Run(Action<PhaulCmdlet> work) => Put(work);

    private void Put(Action<PhaulCmdlet> write, object? keep = null)
    {
        lock (_lock)
        {
            _records.Enqueue((write, keep));
        }

        _filled.Release();
    }

    private void PutLine(Action<PhaulCmdlet> line, int most = MaxLines)
    {
        lock (_lock)
        {
            if (_lines >= most)
            {
                _droppedLines++;
                return;
            }

            _lines++;
            _records.Enqueue((line, null));
        }

        _filled.Release();
    }

    private Exception? TryWrite(PhaulCmdlet cmdlet)
    {
        Queue<(Action<PhaulCmdlet> Write, object? Keep)> records;
        ProgressRecord[] progress;
        int dropped;
        lock (_lock)
        {
            (records, _records) = (_records, new());
            progress = [.. _progress.Values];
            _progress.Clear();
            (dropped, _droppedLines, _lines) = (_droppedLines, 0, 0);
        }

        try
        {
            while (records.TryPeek(out (Action<PhaulCmdlet> Write, object? Keep) record))
            {
                record.Write(cmdlet);
                records.Dequeue();
            }

            if (dropped > 0)
            {
                cmdlet.Warn($"{dropped} lines were left out: the pipeline did not take them fast enough.");
            }

            foreach (ProgressRecord record in progress)
            {
                cmdlet.WriteProgress(record);
            }

            return null;
        }
        catch (Exception refusal)
        {
            if (refusal is not PipelineStoppedException)
            {
                // -ErrorAction Stop: this record is what PowerShell reports
                records.TryDequeue(out _);
            }

            lock (_lock)
            {
                _unwritten.AddRange(records.Select(record => record.Keep).OfType<object>());
            }

            return refusal;
        }
    }
}
