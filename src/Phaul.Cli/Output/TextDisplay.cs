// Events for people: on a terminal one line that changes and rows that stay, elsewhere plain lines.

namespace Phaul.Cli.Output;

/// <summary>Shows events as text.</summary>
/// <param name="streams">Where to.</param>
/// <param name="verbose">The story, too.</param>
/// <param name="prefix">What every line begins with (the time and the migration, where several run side by side); null for nothing.</param>
internal sealed class TextDisplay(Streams streams, bool verbose, Func<MigrationEvent, string>? prefix = null) : IEventDisplay
{
    private static readonly TimeSpan PlainProgressEvery = TimeSpan.FromSeconds(5);

    private DateTimeOffset _nextPlainProgress;
    private bool _headShown;
    private bool _lineOpen;

    /// <inheritdoc/>
    public void Show(MigrationEvent migrationEvent)
    {
        var start = prefix?.Invoke(migrationEvent) ?? "";
        switch (migrationEvent)
        {
            case StateChangedEvent e:
                WriteLine(start + MigrationText.State(e.Change));
                break;
            case ProgressEvent e:
                ShowProgress(e);
                break;
            case IterationCompletedEvent e when prefix is null:
                if (!_headShown)
                    WriteLine(MigrationText.RowHead);
                _headShown = true;
                WriteLine(MigrationText.Row(e.Iteration));
                break;
            case IterationCompletedEvent e:
                WriteLine($"{start}iteration{MigrationText.Row(e.Iteration)}");
                break;
            case WarningEvent e:
                WriteLine($"{start}warning: {e.Message}");
                break;
            case StoryEvent e when verbose:
                WriteLine($"{start}  {e.Message}");
                break;
            case CriuLogEvent e:
                WriteLine($"{start}  criu on {e.Host}: {e.Line}");
                break;
        }
    }

    /// <inheritdoc/>
    public void Show(JsonLine line, string? text)
    {
        if (text is not null)
            WriteLine(text);
    }

    /// <inheritdoc/>
    public void End() => Write(ClearLine());

    private void ShowProgress(ProgressEvent progress)
    {
        if (streams.TerminalWidth is { } width)
        {
            // One column is left free: a full line makes some terminals wrap
            Write("\r\e[K" + MigrationText.Progress(progress, width() - 1));
            _lineOpen = true;
        }
        else if (prefix is null && progress.Time >= _nextPlainProgress)
        {
            // The first is not shown: a migration that takes seconds needs no progress lines
            if (_nextPlainProgress != default)
                WriteLine(MigrationText.Progress(progress, int.MaxValue));
            _nextPlainProgress = progress.Time + PlainProgressEvery;
        }
    }

    private void WriteLine(string line) => Write(ClearLine() + line + "\n");

    private string ClearLine()
    {
        var clear = _lineOpen ? "\r\e[K" : "";
        _lineOpen = false;
        return clear;
    }

    private void Write(string text)
    {
        if (text.Length == 0)
            return;
        streams.Output.Write(text);
        streams.Output.Flush();
    }
}
