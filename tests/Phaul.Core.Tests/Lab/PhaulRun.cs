// A `phaul ... --json` in a host: its events as they come, and how it ended.

using System.Text.Json;

namespace Phaul.Tests.Lab;

/// <summary>A running command line.</summary>
public sealed class PhaulRun : IAsyncDisposable
{
    // Far more than anything here takes: a test that hangs ends with what it was waiting for
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(90);

    private readonly RunningCommand _command;
    private readonly List<JsonElement> _events = [];

    private PhaulRun(RunningCommand command) => _command = command;

    /// <summary>Everything so far.</summary>
    public IReadOnlyList<JsonElement> Events => _events;

    public string ErrorText => _command.ErrorText;

    public static PhaulRun Start(LabHost host, params string[] arguments) => StartUnder(host, [], arguments);

    /// <summary>With something before it, as <c>env</c> or <c>nice</c>.</summary>
    public static PhaulRun StartUnder(LabHost host, string[] prefix, params string[] arguments) =>
        new(host.Start([.. prefix, LabFixture.Phaul, .. arguments, "--json"]));

    /// <summary>Waits for an event; those before it are kept in <see cref="Events"/>.</summary>
    public async Task<JsonElement> WaitForAsync(string what, Func<JsonElement, bool> condition)
    {
        foreach (var earlier in _events)
        {
            if (condition(earlier))
                return earlier;
        }

        while (await NextAsync(what) is { } next)
        {
            if (condition(next))
                return next;
        }

        throw new InvalidOperationException($"phaul ended without {what}. {Story()}");
    }

    public Task<JsonElement> WaitForStateAsync(MigrationState state) =>
        WaitForAsync($"state {state}", line => IsEvent(line, "state") && Text(line, "state") == state.ToString());

    /// <summary>Waits until so many bytes of pages were moved.</summary>
    public Task<JsonElement> WaitForBytesAsync(long bytes) =>
        WaitForAsync($"{bytes} bytes", line => IsEvent(line, "progress") && line.GetProperty("bytesMoved").GetInt64() >= bytes);

    /// <summary>Reads to the end.</summary>
    /// <returns>The exit code.</returns>
    public async Task<int> ExitAsync()
    {
        while (await NextAsync("its end") is not null)
        {
        }

        return await _command.ExitAsync(Limit);
    }

    /// <summary>The last event of a kind.</summary>
    public JsonElement Last(string kind)
    {
        var last = _events.FindLastIndex(line => IsEvent(line, kind));
        return last >= 0 ? _events[last] : throw new InvalidOperationException($"there was no {kind}. {Story()}");
    }

    /// <summary>The states that were entered, in order.</summary>
    public IReadOnlyList<string> States => _events.Where(line => IsEvent(line, "state")).Select(line => Text(line, "state")).ToArray();

    /// <summary>Everything it said, for failure messages.</summary>
    public string Story()
    {
        while (_command.LineSoFar() is { } line)
            Take(line);
        return $"Events:\n{string.Join('\n', _events.Where(line => !IsEvent(line, "progress")))}\nStandard error:\n{ErrorText}";
    }

    public ValueTask DisposeAsync() => _command.DisposeAsync();

    private async Task<JsonElement?> NextAsync(string what)
    {
        try
        {
            var line = await _command.NextLineAsync(Limit);
            if (line is null)
                return null;
            Take(line);
            return _events[^1];
        }
        catch (TimeoutException e)
        {
            throw new TimeoutException($"still waiting for {what}. {Story()}", e);
        }
    }

    private void Take(string line)
    {
        using var document = JsonDocument.Parse(line);
        _events.Add(document.RootElement.Clone());
    }

    private static bool IsEvent(JsonElement line, string kind) => Text(line, "event") == kind;

    private static string Text(JsonElement line, string name) => line.GetProperty(name).GetString()!;
}
