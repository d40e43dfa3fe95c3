// A host of the lab: runs commands in it, and says what runs there.

using System.Globalization;

namespace Phaul.Tests.Lab;

/// <summary>Host a or b.</summary>
public sealed class LabHost(string tool, string root, string name, string address, string init)
{
    public string Name => name;

    /// <summary>The pid of its pid 1, as this machine sees it.</summary>
    public int Init => int.Parse(init, CultureInfo.InvariantCulture);

    public string Address => address;

    /// <summary>The fingerprint of the host's certificate.</summary>
    public string Fingerprint { get; set; } = "";

    /// <summary>Starts a command that goes on.</summary>
    public RunningCommand Start(params string[] command) => RunningCommand.Start(tool, ["exec", root, name, .. command]);

    /// <summary>Runs a command to its end and gives its output.</summary>
    /// <exception cref="InvalidOperationException">It failed.</exception>
    public async Task<string> RunAsync(params string[] command)
    {
        var (code, output) = await RunningCommand.RunAsync(tool, ["exec", root, name, .. command]);
        return code == 0
            ? output.TrimEnd('\n')
            : throw new InvalidOperationException($"{string.Join(' ', command)} on {name} ended with {code}: {output}");
    }

    /// <summary>Runs a command for its exit code.</summary>
    public async Task<int> TryAsync(params string[] command) =>
        (await RunningCommand.RunAsync(tool, ["exec", root, name, .. command])).Code;

    /// <summary>Starts a command as CRIU can dump it.</summary>
    /// <returns>Its pid in the host.</returns>
    public async Task<int> StartDetachedAsync(params string[] command)
    {
        var (code, output) = await RunningCommand.RunAsync(tool, ["exec", "-d", root, name, .. command]);
        return code == 0
            ? int.Parse(output.Trim(), CultureInfo.InvariantCulture)
            : throw new InvalidOperationException($"{string.Join(' ', command)} on {name} ended with {code}: {output}");
    }

    /// <summary>How many processes of that name the host has; zombies do not count.</summary>
    public async Task<int> CountAsync(string processName)
    {
        var (_, output) = await RunningCommand.RunAsync(tool, "exec", root, name, "ps", "-C", processName, "-o", "stat=");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Count(state => !state.StartsWith('Z'));
    }

    public Task SignalAsync(string signal, string processName) => RunAsync("pkill", $"-{signal}", "-x", processName);

    /// <summary>Ends everything but the host itself, and waits until it is gone.</summary>
    public async Task KillAllAsync()
    {
        for (var tries = 0; tries < 200; tries++)
        {
            var others = (await RunAsync("ps", "-e", "-o", "pid=,stat=,comm=")).Split('\n', StringSplitOptions.TrimEntries)
                .Where(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries) is not (["1", ..] or [_, ['Z', ..], ..] or [_, _, "ps"])).ToArray();
            if (others.Length == 0)
                return;
            // All but the host's pid 1 and itself; it says that there were none if they ended meanwhile
            await TryAsync("/bin/kill", "-KILL", "--", "-1");
        }

        throw new InvalidOperationException($"processes on {name} do not end: {await RunAsync("ps", "-ef")}");
    }

    /// <summary>A file of the host, as this machine reaches it.</summary>
    public string PathOf(string file) => $"/proc/{init}/root{file}";
}
