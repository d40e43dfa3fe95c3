// Defaults: what is given wins over $PSDefaultParameterValues, that over the preference file, that over the cmdlet's own.

namespace Phaul.PowerShell.Tests;

[Collection("environment")]
public sealed class PreferenceTests : IDisposable
{
    private readonly ModuleSession _session = new();
    private readonly string _file;

    public PreferenceTests()
    {
        _file = Path.Combine(_session.Directory, "PhaulPreference.psd1");
        Environment.SetEnvironmentVariable("PHAUL_PREFERENCE", _file);
    }

    public void Dispose()
    {
        Environment.SetEnvironmentVariable("PHAUL_PREFERENCE", null);
        _session.Dispose();
    }

    [Fact]
    public void A_file_gives_defaults_and_what_is_given_wins()
    {
        File.WriteAllText(
            _file,
            $"@{{ UnixSocketPath = '/from-the-file'; 'Invoke-PhaulMigration:StateDirectory' = '{_session.Directory}'; PeerTimeout = '2s' }}");
        Assert.Equal("/from-the-file", Destination("Invoke-PhaulMigration 2147483 -Force"));
        Assert.Equal("/given", Destination("Invoke-PhaulMigration 2147483 -UnixSocketPath /given -Force"));
        Assert.Equal("b:7248", Destination("Invoke-PhaulMigration 2147483 b -InsecureLoopback -Force"));
        Assert.Equal("/session", Destination(
            "$PSDefaultParameterValues['*-Phaul*:UnixSocketPath'] = '/session'; "
            + "try { Invoke-PhaulMigration 2147483 -Force } finally { $PSDefaultParameterValues.Clear() }"));
    }

    [Fact]
    public void A_cmdlets_own_entry_wins_over_one_for_all()
    {
        File.WriteAllText(
            _file,
            $"@{{ 'Invoke-PhaulMigration:UnixSocketPath' = '/own'; UnixSocketPath = '/all'; StateDirectory = '{_session.Directory}' }}");
        Assert.Equal("/own", Destination("Invoke-PhaulMigration 2147483 -Force"));
    }

    [Theory]
    [InlineData("@{ Mode = 'Sideways' }", "Mode")]
    [InlineData("@{ ThrottleLimit = 0 }", "ThrottleLimit")]
    [InlineData("@{ Port = (Get-Random) }", "not used")]
    [InlineData("not a hashtable", "not used")]
    [InlineData("@{", "not used")]
    public void What_cannot_be_used_is_a_warning_and_nothing_in_it_is_run(string content, string warning)
    {
        File.WriteAllText(_file, content);
        using var shell = _session.Command(
            $"Invoke-PhaulMigration 2147483 -UnixSocketPath /given -StateDirectory {_session.Directory} -Force");
        shell.Invoke();
        Assert.Contains(warning, Assert.Single(shell.Streams.Warning).Message);
        Assert.StartsWith("ProcessNotFound", Assert.Single(shell.Streams.Error).FullyQualifiedErrorId);
    }

    private string? Destination(string script) =>
        (string?)PSObject.AsPSObject(_session.Error(script).TargetObject).Properties["Destination"].Value;
}
