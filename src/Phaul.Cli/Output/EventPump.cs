// Takes events from the engine and shows them on a thread of its own: a slow terminal or a full pipe must not keep a
// program frozen.

using System.Threading.Channels;

namespace Phaul.Cli.Output;

/// <summary>The observer that commands give to the engine.</summary>
internal sealed class EventPump : IProgress<MigrationEvent>, IAsyncDisposable
{
    // Whoever does not read for so long loses the rest of the story, not the program
    private static readonly TimeSpan LongestFlush = TimeSpan.FromSeconds(10);

    // Bounded: at the engine's few events a second this is reached by a reader that has gone to sleep
    private const int Capacity = 10_000;

    private readonly Channel<Action> _shown = Channel.CreateBounded<Action>(
        new BoundedChannelOptions(Capacity) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

    private readonly IEventDisplay _display;
    private readonly Task _pumping;

    /// <summary>Begins to show.</summary>
    public EventPump(IEventDisplay display)
    {
        _display = display;
        _pumping = Task.Run(PumpAsync);
    }

    /// <inheritdoc/>
    /// <remarks>Never waits: what finds the channel full is left out.</remarks>
    public void Report(MigrationEvent value)
    {
        // Lines of CRIU's come by the thousand: they leave room for what matters more
        if (value is not CriuLogEvent || _shown.Reader.Count < Capacity / 2)
            _shown.Writer.TryWrite(() => _display.Show(value));
    }

    /// <summary>Shows a line in its own right, after all events so far, and waits no more than they do.</summary>
    public void Report(JsonLine line, string? text) => _shown.Writer.TryWrite(() => _display.Show(line, text));

    /// <summary>Shows a line that must not be left out, after all events so far.</summary>
    public async Task ReportAsync(JsonLine line, string? text)
    {
        using var limit = new CancellationTokenSource(LongestFlush);
        try
        {
            await _shown.Writer.WriteAsync(() => _display.Show(line, text), limit.Token);
        }
        catch (OperationCanceledException)
        {
            // The reader of our output stands still
        }
    }

    /// <summary>Shows what is left.</summary>
    public async ValueTask DisposeAsync()
    {
        _shown.Writer.TryComplete();
        try
        {
            await _pumping.WaitAsync(LongestFlush);
        }
        catch (TimeoutException)
        {
            // The reader of our output stands still
        }
    }

    private async Task PumpAsync()
    {
        try
        {
            await foreach (var show in _shown.Reader.ReadAllAsync())
                show();
            _display.End();
        }
        catch (IOException)
        {
            // The reader of our output has gone (`phaul migrate | head`): the migration goes on unseen
            await foreach (var _ in _shown.Reader.ReadAllAsync())
            {
            }
        }
    }
}
