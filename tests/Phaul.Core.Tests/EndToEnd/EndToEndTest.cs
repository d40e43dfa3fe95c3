// What all end-to-end tests do alike: `phaul serve` on b, `phaul migrate` on a, with the real criu, over TLS.

using Phaul.Tests.Lab;

namespace Phaul.Tests.EndToEnd;

/// <summary>A test in the lab. Each begins with empty hosts and state directories of its own.</summary>
[Collection(LabCollection.Name)]
public abstract class EndToEndTest(LabFixture lab) : IAsyncLifetime
{
    /// <summary>After so long without a word a peer is taken for lost: short, so that tests need not wait for long.</summary>
    protected static readonly string[] PeerTimeout = ["--peer-timeout", "4s"];

    private readonly List<IAsyncDisposable> _owned = [];

    protected LabFixture Lab => lab;

    /// <summary>The state directory on both hosts.</summary>
    protected string StateDirectory { get; } = $"/var/lib/phaul/{Guid.NewGuid():N}";

    public async Task InitializeAsync()
    {
        if (lab.Unavailable is null)
            await lab.ResetAsync();
    }

    public async Task DisposeAsync()
    {
        foreach (var owned in Enumerable.Reverse(_owned))
            await owned.DisposeAsync();
        if (lab.Unavailable is null)
            await lab.ResetAsync();
    }

    /// <summary>Every test begins with this: without a lab it skips and says why.</summary>
    protected void RequireLab() => Skip.If(lab.Unavailable is not null, lab.Unavailable);

    protected Task<TestProgram> StartOnAAsync(string program, params string[] operands) =>
        TestProgram.StartAsync(lab, lab.A, $"{LabFixture.Programs}/{program}", operands);

    /// <summary>Starts a server that trusts the other host, and waits until it listens.</summary>
    protected async Task<PhaulRun> ServeAsync(LabHost? on = null, params string[] options)
    {
        var host = on ?? lab.B;
        var other = host == lab.A ? lab.B : lab.A;
        return await ListenAsync(host, ["--trust", other.Fingerprint, .. options]);
    }

    /// <summary>Starts a server with these options and waits until it listens.</summary>
    protected async Task<PhaulRun> ListenAsync(LabHost host, params string[] options)
    {
        var server = Own(PhaulRun.Start(host, ["serve", "--state-directory", StateDirectory, .. PeerTimeout, .. options]));
        await server.WaitForAsync("listening", line => line.GetProperty("event").GetString() == "listening");
        return server;
    }

    /// <summary>Begins to migrate a program to the other host.</summary>
    protected PhaulRun Migrate(TestProgram program, LabHost? from = null, params string[] options)
    {
        var host = from ?? lab.A;
        var other = host == lab.A ? lab.B : lab.A;
        return MigrateTo(host, program, [other.Address, "--trust", other.Fingerprint, .. options]);
    }

    /// <summary>Begins to migrate a program from <paramref name="host"/>; the options say where to.</summary>
    protected PhaulRun MigrateTo(LabHost host, TestProgram program, params string[] options) =>
        Own(PhaulRun.Start(host, ["migrate", $"{program.Pid}", "--state-directory", StateDirectory, .. PeerTimeout, .. options]));

    /// <summary>Moves a program from a to b, where it runs then and nowhere else.</summary>
    /// <param name="commandLine">The program and its operands.</param>
    /// <param name="options">Of the migration.</param>
    protected async Task<(TestProgram Program, PhaulRun Server, PhaulRun Migration)> MoveAsync(string commandLine, params string[] options)
    {
        var words = commandLine.Split(' ');
        var program = await StartOnAAsync(words[0], words[1..]);
        var server = await ServeAsync();
        var migration = Migrate(program, null, options);
        await AssertSucceedsAsync(migration);
        await program.AssertRunsOnlyOnAsync(Lab.B, Story(migration, server));
        return (program, server, migration);
    }

    protected T Own<T>(T owned) where T : IAsyncDisposable
    {
        _owned.Add(owned);
        return owned;
    }

    /// <summary>The last words of both sides, for failure messages.</summary>
    protected static Func<string> Story(params PhaulRun[] runs) => () => string.Join("\n---\n", runs.Select(run => run.Story()));

    /// <summary>The exit code, and the error that was told, in JSON and to people alike.</summary>
    protected async Task<string> AssertFailsAsync(PhaulRun migration, int exitCode, PhaulErrorId error, ProgramState program)
    {
        var code = await migration.ExitAsync();
        Assert.True(code == exitCode, $"exit code {code} instead of {exitCode}. {Stories()}");
        var line = migration.Last("error");
        Assert.Equal(error.ToString(), line.GetProperty("errorId").GetString());
        Assert.Equal(program.ToString(), line.GetProperty("programState").GetString());
        Assert.Equal(exitCode, line.GetProperty("exitCode").GetInt32());
        var message = line.GetProperty("message").GetString()!;
        Assert.Contains(message, migration.ErrorText);
        return message;
    }

    protected async Task AssertSucceedsAsync(PhaulRun migration)
    {
        var code = await migration.ExitAsync();
        Assert.True(code == 0, $"exit code {code}. {Stories()}");
    }

    private string Stories() => Story([.. _owned.OfType<PhaulRun>()])();
}
