// A test program (tests/lab/programs) in a host, and what its log says.

namespace Phaul.Tests.Lab;

/// <summary>A program that counts, and writes each step into a log that both hosts see.</summary>
public sealed class TestProgram
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    private readonly LabFixture _lab;

    private TestProgram(LabFixture lab, string name, int pid, string log) => (_lab, Name, Pid, Log) = (lab, name, pid, log);

    /// <summary>The name of its processes.</summary>
    public string Name { get; }

    public int Pid { get; }

    /// <summary>Its log, as this machine sees it.</summary>
    public string Log { get; }

    /// <summary>Starts a program on a host and waits until it counts.</summary>
    /// <param name="lab">The lab.</param>
    /// <param name="host">The host.</param>
    /// <param name="path">The program.</param>
    /// <param name="operands">What it gets besides its log.</param>
    public static Task<TestProgram> StartAsync(LabFixture lab, LabHost host, string path, params string[] operands) =>
        StartWithLogAsync(lab, host, path, Path.GetFileName(path), operands);

    /// <summary>The same, with a log of another name than the program's.</summary>
    public static async Task<TestProgram> StartWithLogAsync(LabFixture lab, LabHost host, string path, string log, params string[] operands)
    {
        var name = Path.GetFileName(path);
        var pid = await host.StartDetachedAsync([path, "--log", $"/shared/{log}", .. operands]);
        var program = new TestProgram(lab, name, pid, Path.Combine(lab.Shared, log));
        await program.WaitForStepsAsync(20);
        return program;
    }

    /// <summary>How many steps it has logged.</summary>
    public int Steps => Lines().Count(line => char.IsAsciiDigit(line[0]));

    /// <summary>Waits until it has logged so many steps more than now.</summary>
    public async Task WaitForStepsAsync(int more)
    {
        var enough = Steps + more;
        await UntilAsync(() => Task.FromResult(Steps >= enough), $"{Name} does not count on: {Steps} steps");
    }

    /// <summary>Has it check all of its memory, in all of its processes.</summary>
    public async Task VerifyAsync(LabHost host)
    {
        var verifications = Verifications().Length;
        await host.RunAsync("kill", "-USR1", $"{Pid}");
        await UntilAsync(() => Task.FromResult(Verifications().Length > verifications), $"{Name} does not verify itself");
        Assert.True(Verifications()[^1].StartsWith("verify ok", StringComparison.Ordinal), string.Join('\n', Lines().TakeLast(20)));
    }

    /// <summary>
    /// It runs on <paramref name="host"/>, with its pid, and goes on; nothing of it is on the other; not a step is missing,
    /// repeated or wrong, and all of its memory is right.
    /// </summary>
    /// <param name="host">Where it must be.</param>
    /// <param name="why">The story, for failure messages.</param>
    public async Task AssertRunsOnlyOnAsync(LabHost host, Func<string> why, bool mayRepeat = false)
    {
        var other = host == _lab.A ? _lab.B : _lab.A;
        // A failure is noticed on the other side when its time-out has passed: what was restored there is gone then
        await UntilAsync(async () => await other.CountAsync(Name) == 0, $"{Name} is still on {other.Name}. {why()}");
        Assert.True(await host.TryAsync("test", "-d", $"/proc/{Pid}") == 0, $"{Name} is not on {host.Name}. {why()}");
        await WaitForStepsAsync(50);
        await VerifyAsync(host);
        await WaitForStepsAsync(5);
        await _lab.CheckLogAsync(Log, mayRepeat);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition, string otherwise)
    {
        var end = DateTime.UtcNow + Limit;
        while (!await condition())
        {
            if (DateTime.UtcNow > end)
                throw new TimeoutException(otherwise);
            await Task.Delay(20);
        }
    }

    private string[] Verifications() => Lines().Where(line => line.StartsWith("verify", StringComparison.Ordinal)).ToArray();

    // Only whole lines: the last may be in the making
    private string[] Lines()
    {
        if (!File.Exists(Log))
            return [];
        using var stream = new FileStream(Log, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var reader = new StreamReader(stream);
        var text = reader.ReadToEnd();
        return text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
