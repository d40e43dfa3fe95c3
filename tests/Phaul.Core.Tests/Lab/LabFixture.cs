// The lab (tests/lab) as a fixture: two hosts, the test programs, the command line, and certificates pinned both ways.

using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Phaul.Procfs;

namespace Phaul.Tests.Lab;

/// <summary>One lab for all tests of the collection <see cref="Name"/>, which therefore run one after the other.</summary>
[CollectionDefinition(Name)]
public sealed class LabCollection : ICollectionFixture<LabFixture>
{
    public const string Name = "lab";
}

/// <summary>A running lab. Where there cannot be one, <see cref="Unavailable"/> says why, and tests skip with it.</summary>
public sealed class LabFixture : IAsyncLifetime
{
    public const string Programs = "/opt/programs";
    public const string Phaul = "/opt/phaul/phaul";
    public const string DotnetCounter = "/opt/dotnet-counter/dotnet-counter";

    private const string PipeSizes = "/proc/sys/fs/pipe-max-size";
    private const long LargePipes = 4 << 20;

    private static readonly TimeSpan StartLimit = TimeSpan.FromMinutes(5);

    private readonly DirectoryInfo _scratch = Directory.CreateTempSubdirectory("phaul-tests-");
    private readonly string _tool;
    private readonly string _repository;
    private RunningCommand? _lab;
    private string? _pipesBefore;

    public LabFixture()
    {
        _repository = FindRepository();
        _tool = Path.Combine(_repository, "tests", "lab", "lab");
    }

    public string? Unavailable { get; private set; }

    /// <summary>Why memory cannot stay behind here; null: it can.</summary>
    public string? NoPostCopy { get; private set; }

    /// <summary>Whether processes in the lab have CAP_SYS_RESOURCE.</summary>
    public static bool HasResourceCapability =>
        (ProcStatus.Read(ProcFileSystem.Host, "self")!.EffectiveCapabilities >> 24 & 1) != 0;

    /// <summary>The lab's directory on this machine.</summary>
    public string Root { get; private set; } = "";

    public LabHost A { get; private set; } = null!;

    public LabHost B { get; private set; } = null!;

    /// <summary>The directory that both hosts see as /shared, as this machine sees it.</summary>
    public string Shared => Path.Combine(Root, "shared");

    public async Task InitializeAsync()
    {
        if (!Environment.IsPrivilegedProcess)
        {
            Unavailable = "the lab needs root";
            return;
        }

        var programs = Path.Combine(_scratch.FullName, "programs");
        await ToolAsync("prepare");
        await ToolAsync("prepare-programs", programs);
        _lab = RunningCommand.Start(
            _tool, "start", "--bind", $"{programs}:{Programs}", "--bind", $"{BuiltIn("src/Phaul.Cli")}:{Path.GetDirectoryName(Phaul)}",
            "--bind", $"{BuiltIn("tests/DotnetCounter")}:{Path.GetDirectoryName(DotnetCounter)}");
        var ready = (await _lab.NextLineAsync(StartLimit))?.Split(' ');
        if (ready is not ["READY", var root, _, _])
            throw new InvalidOperationException($"the lab does not start: {_lab.ErrorText}");
        Root = root;
        A = new LabHost(_tool, Root, "a", "10.77.0.1", File.ReadAllText(Path.Combine(Root, "a", "pid")).Trim());
        B = new LabHost(_tool, Root, "b", "10.77.0.2", File.ReadAllText(Path.Combine(Root, "b", "pid")).Trim());
        foreach (var host in (LabHost[])[A, B])
        {
            var made = await host.RunAsync(Phaul, "new-certificate", "--json");
            using var line = JsonDocument.Parse(made);
            host.Fingerprint = line.RootElement.GetProperty("fingerprint").GetString()!;
        }

        AllowLargePipes();
    }

    // Without the capability CRIU needs what the check LatePipes asks for; the machine gets its own value back
    private void AllowLargePipes()
    {
        var current = File.ReadAllText(PipeSizes).Trim();
        if (HasResourceCapability || long.Parse(current, CultureInfo.InvariantCulture) >= LargePipes)
            return;
        try
        {
            File.WriteAllText(PipeSizes, $"{LargePipes}");
            _pipesBefore = current;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            NoPostCopy = $"memory cannot stay behind: no CAP_SYS_RESOURCE, and fs.pipe-max-size is {current} ({exception.Message})";
        }
    }

    public async Task DisposeAsync()
    {
        if (_lab is not null)
        {
            _lab.CloseInput();
            await _lab.ExitAsync(TimeSpan.FromMinutes(1));
            await _lab.DisposeAsync();
        }

        if (_pipesBefore is not null)
            await File.WriteAllTextAsync(PipeSizes, _pipesBefore);
        _scratch.Delete(recursive: true);
    }

    /// <summary>Between tests: nothing runs in the hosts, the link is whole, no log is left.</summary>
    public async Task ResetAsync()
    {
        await MendAsync();
        await ToolAsync("limit", Root, "off");
        foreach (var host in (LabHost[])[A, B])
            await host.KillAllAsync();
        // What is started on b must not take pids that programs bring along from a: those begin at 10000
        await B.RunAsync("sh", "-c", "echo 300 > /proc/sys/kernel/ns_last_pid");
        foreach (var file in Directory.EnumerateFiles(Shared))
            File.Delete(file);
    }

    /// <summary>Takes the link down.</summary>
    public Task CutAsync() => ToolAsync("cut", Root);

    /// <summary>Undoes <see cref="CutAsync"/>.</summary>
    public Task MendAsync() => ToolAsync("mend", Root);

    /// <summary>Loses what comes in on either side, without a word.</summary>
    public Task DropAsync() => ToolAsync("drop", Root);

    /// <summary>Undoes <see cref="DropAsync"/>.</summary>
    public Task UndropAsync() => ToolAsync("undrop", Root);

    /// <summary>Limits the link's bandwidth, as tc(8) spells it.</summary>
    public Task LimitAsync(string rate) => ToolAsync("limit", Root, rate);

    /// <summary>Runs the lab's log checker, which throws (with its words) unless every step is there and right, and once.</summary>
    /// <param name="log">The program's.</param>
    /// <param name="mayRepeat">Steps may be there more than once.</param>
    public async Task CheckLogAsync(string log, bool mayRepeat = false)
    {
        var (code, output) = await RunningCommand.RunAsync(
            Path.Combine(_repository, "tests", "lab", "check-log"), mayRepeat ? ["--repeats", log] : [log]);
        Assert.True(
            code == 0,
            $"{log} is not as it must be: {output}{string.Join('\n', File.ReadLines(log).Where(line => line.Contains('#') || line.Contains("FAILED")))}");
    }

    private async Task ToolAsync(params string[] arguments)
    {
        var (code, output) = await RunningCommand.RunAsync(_tool, arguments);
        if (code != 0)
            throw new InvalidOperationException($"lab {string.Join(' ', arguments)} ended with {code}: {output}");
    }

    // The tests are in tests/X/bin/CONFIGURATION/FRAMEWORK, what they test is built in the same configuration
    private string BuiltIn(string project)
    {
        var framework = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd('/'));
        return Path.Combine(_repository, project, "bin", framework.Parent!.Name, framework.Name);
    }

    private static string FindRepository([CallerFilePath] string sourceFile = "")
    {
        foreach (var start in (string?[])[AppContext.BaseDirectory, Path.GetDirectoryName(sourceFile)])
        {
            for (var directory = start; directory is not null; directory = Path.GetDirectoryName(directory))
            {
                if (File.Exists(Path.Combine(directory, "Phaul.sln")))
                    return directory;
            }
        }

        throw new InvalidOperationException("the tests do not run within the repository");
    }
}
