// Whole command lines that end before an engine is needed, and the exit codes of errors.

using System.Net.Sockets;
using System.Text.Json;
using Phaul.Cli.Commands;
using Phaul.Cli.Hosting;
using Phaul.Cli.Output;

namespace Phaul.Cli.Tests;

public sealed class CommandLineTests : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-cli-tests-");

    public void Dispose() => _directory.Delete(recursive: true);

    [Theory]
    [InlineData("")]
    [InlineData("fly")]
    [InlineData("migrate")]
    [InlineData("migrate 12")]
    [InlineData("migrate x host")]
    [InlineData("migrate 0 host")]
    [InlineData("migrate 12 host --unix /x")]
    [InlineData("migrate 12 host --mode fast")]
    [InlineData("migrate 12 host --bandwidth-limit 10")]
    [InlineData("migrate 12 host --max-downtime 5")]
    [InlineData("migrate 12 host --max-iterations 0")]
    [InlineData("migrate 12 host --log-level 5")]
    [InlineData("migrate 12 host")]
    [InlineData("migrate 12 host --trust 1234")]
    [InlineData("check 12")]
    [InlineData("serve --port 65536")]
    [InlineData("serve --listen nowhere")]
    [InlineData("serve --trust /does/not/exist")]
    [InlineData("new-certificate --days 0")]
    public async Task BadUsageIsToldApart(string arguments)
    {
        var (code, output, error) = await RunAsync(arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal((int)ExitCode.BadUsage, code);
        Assert.Empty(output);
        Assert.StartsWith("phaul: ", error);
    }

    [Fact]
    public async Task HelpListsTheExitCodes()
    {
        var (code, output, error) = await RunAsync("migrate", "--help");
        Assert.Equal(0, code);
        Assert.Empty(error);
        Assert.Contains("--tcp-established", output);
        foreach (var (exitCode, meaning) in ExitCodes.Meanings)
            Assert.Contains($"{(int)exitCode,3}  {meaning}", output);
    }

    [Fact]
    public void EveryExitCodeHasAMeaning() => Assert.Equal(Enum.GetValues<ExitCode>(), ExitCodes.Meanings.Select(entry => entry.Code));

    [Fact]
    public async Task ACertificateIsMadeOnceAndItsFingerprintTold()
    {
        string[] arguments = ["new-certificate", "--directory", _directory.FullName, "--name", "alpha", "--json"];
        var (code, output, _) = await RunAsync(arguments);
        Assert.Equal(0, code);
        var line = JsonDocument.Parse(output).RootElement;
        Assert.Equal(64, line.GetProperty("fingerprint").GetString()!.Length);
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(line.GetProperty("keyPath").GetString()!));

        var (again, _, error) = await RunAsync(arguments);
        Assert.Equal((int)ExitCode.BadUsage, again);
        Assert.Contains(_directory.FullName, error);
        Assert.Equal(0, (await RunAsync([.. arguments, "--force"])).Code);
    }

    [Fact]
    public async Task AHostWithoutCriuFailsTheChecks()
    {
        var (code, output, _) = await RunAsync("check", "--criu", "/does/not/exist", "--json");
        Assert.Equal((int)ExitCode.Refused, code);
        Assert.Contains("\"verdict\":\"Failed\"", output);
    }

    [Theory]
    [InlineData(PhaulErrorId.InvalidRequest, null, ProgramState.RunningOnSource, ExitCode.BadUsage)]
    [InlineData(PhaulErrorId.ConnectionFailed, null, ProgramState.RunningOnSource, ExitCode.NotConnected)]
    [InlineData(PhaulErrorId.AuthenticationFailed, MigrationState.Connecting, ProgramState.RunningOnSource, ExitCode.NotConnected)]
    [InlineData(PhaulErrorId.ConnectionLost, MigrationState.Checking, ProgramState.RunningOnSource, ExitCode.NotConnected)]
    [InlineData(PhaulErrorId.ConnectionLost, MigrationState.Transferring, ProgramState.RunningOnSource, ExitCode.RolledBack)]
    [InlineData(PhaulErrorId.CheckFailed, MigrationState.Checking, ProgramState.RunningOnSource, ExitCode.Refused)]
    [InlineData(PhaulErrorId.ServerBusy, MigrationState.Connecting, ProgramState.RunningOnSource, ExitCode.Refused)]
    [InlineData(PhaulErrorId.ProcessNotFound, MigrationState.Checking, ProgramState.Gone, ExitCode.Refused)]
    [InlineData(PhaulErrorId.DumpFailed, MigrationState.Freezing, ProgramState.RunningOnSource, ExitCode.RolledBack)]
    [InlineData(PhaulErrorId.RestoreFailed, MigrationState.Transferring, ProgramState.RunningOnSource, ExitCode.RolledBack)]
    [InlineData(PhaulErrorId.ConnectionLost, MigrationState.Committing, ProgramState.HeldOnDestination, ExitCode.InDoubt)]
    [InlineData(PhaulErrorId.InDoubt, MigrationState.Committing, ProgramState.Unknown, ExitCode.InDoubt)]
    [InlineData(PhaulErrorId.Cancelled, MigrationState.PreCopying, ProgramState.RunningOnSource, ExitCode.Cancelled)]
    [InlineData(PhaulErrorId.ProgramLost, MigrationState.Completed, ProgramState.Gone, ExitCode.Lost)]
    [InlineData(PhaulErrorId.InternalError, MigrationState.Freezing, ProgramState.RunningOnSource, ExitCode.InternalError)]
    [InlineData(PhaulErrorId.InternalError, MigrationState.Committing, ProgramState.Unknown, ExitCode.InDoubt)]
    internal void AnErrorBecomesTheExitCodeThatSaysWhereTheProgramIs(PhaulErrorId id, MigrationState? step, ProgramState state, ExitCode code) =>
        Assert.Equal(code, ExitCodes.For(new PhaulException(id, "x") { Step = step, ProgramState = state }));

    [Fact]
    public void TheServiceManagerIsTold()
    {
        var path = Path.Combine(_directory.FullName, "notify");
        using var manager = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 10_000 };
        manager.Bind(new UnixDomainSocketEndPoint(path));
        ServiceNotification.Send(ServiceNotification.Ready, path);
        var buffer = new byte[64];
        Assert.Equal("READY=1", System.Text.Encoding.UTF8.GetString(buffer, 0, manager.Receive(buffer)));
    }

    [Fact]
    public void NobodyHasToListenToServiceNotifications() =>
        ServiceNotification.Send(ServiceNotification.Ready, Path.Combine(_directory.FullName, "nobody"));

    private static async Task<(int Code, string Output, string Error)> RunAsync(params string[] arguments)
    {
        var (output, error) = (new StringWriter(), new StringWriter());
        var code = await PhaulCommand.RunAsync(arguments, new Streams(output, error, null));
        return (code, output.ToString(), error.ToString());
    }
}
