// A command that a test runs, on this machine or (by `lab exec`) in a host.

using System.Diagnostics;
using System.Text;
using System.Threading.Channels;

namespace Phaul.Tests.Lab;

/// <summary>A process with its output. Whoever started it disposes it, which kills it if it still runs.</summary>
public sealed class RunningCommand : IAsyncDisposable
{
    private static readonly TimeSpan UsualLimit = TimeSpan.FromMinutes(5);

    private readonly Process _process;
    private readonly Channel<string> _lines = Channel.CreateUnbounded<string>();
    private readonly StringBuilder _error = new();
    private readonly Task _reading;

    private RunningCommand(Process process)
    {
        _process = process;
        _reading = Task.WhenAll(ReadOutputAsync(), ReadErrorAsync());
    }

    /// <summary>What it has written to standard error so far.</summary>
    public string ErrorText
    {
        get
        {
            lock (_error)
                return _error.ToString();
        }
    }

    public static RunningCommand Start(string program, params string[] arguments)
    {
        var process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        return new RunningCommand(process);
    }

    /// <summary>Runs a command to its end.</summary>
    public static async Task<(int Code, string Output)> RunAsync(string program, params string[] arguments)
    {
        await using var command = Start(program, arguments);
        command.CloseInput();
        var output = new StringBuilder();
        while (await command.NextLineAsync(UsualLimit) is { } line)
            output.AppendLine(line);
        var code = await command.ExitAsync(UsualLimit);
        return (code, output + command.ErrorText);
    }

    /// <summary>The next line of its standard output; null at the end.</summary>
    /// <exception cref="TimeoutException">None came in time.</exception>
    public async Task<string?> NextLineAsync(TimeSpan limit)
    {
        using var timeout = new CancellationTokenSource(limit);
        try
        {
            return await _lines.Reader.WaitToReadAsync(timeout.Token) && _lines.Reader.TryRead(out var line) ? line : null;
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException($"no line within {limit}; standard error: {ErrorText}");
        }
    }

    /// <summary>The next line, if there is one already.</summary>
    public string? LineSoFar() => _lines.Reader.TryRead(out var line) ? line : null;

    public void CloseInput() => _process.StandardInput.Close();

    /// <summary>Waits for its end.</summary>
    /// <returns>Its exit code.</returns>
    public async Task<int> ExitAsync(TimeSpan limit)
    {
        await _process.WaitForExitAsync().WaitAsync(limit);
        await _reading.WaitAsync(limit);
        return _process.ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
            _process.Kill();
        await _process.WaitForExitAsync();
        _process.Dispose();
    }

    private async Task ReadOutputAsync()
    {
        try
        {
            while (await _process.StandardOutput.ReadLineAsync() is { } line)
                _lines.Writer.TryWrite(line);
        }
        catch (Exception e) when (e is InvalidOperationException or IOException)
        {
            // Disposed meanwhile
        }
        finally
        {
            _lines.Writer.Complete();
        }
    }

    private async Task ReadErrorAsync()
    {
        try
        {
            while (await _process.StandardError.ReadLineAsync() is { } line)
            {
                lock (_error)
                    _error.AppendLine(line);
            }
        }
        catch (Exception e) when (e is InvalidOperationException or IOException)
        {
            // Disposed meanwhile
        }
    }
}
