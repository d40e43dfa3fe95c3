// The module as a whole: what importing and removing it does, and what its cmdlets refuse.

namespace Phaul.PowerShell.Tests;

public sealed class ModuleTests : IDisposable
{
    private readonly ModuleSession _session = new();

    public void Dispose() => _session.Dispose();

    [Fact]
    public void Importing_again_in_another_runspace_and_removing_it_there_leaves_this_one_working()
    {
        using (new ModuleSession())
        {
        }

        Assert.Empty(_session.Run($"Get-PhaulMigration -StateDirectory {_session.Directory}"));
    }

    [Fact]
    public void A_certificate_is_made_for_its_owner_alone_and_not_replaced_unasked()
    {
        var made = _session.Run($"New-PhaulCertificate {_session.Directory}/own -Validity 2d -Name me").Single();
        string key = (string)made.Properties["KeyPath"].Value;
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(key));
        Assert.Equal(64, ((string)made.Properties["Fingerprint"].Value).Length);
        var left = (DateTimeOffset)made.Properties["NotAfter"].Value - DateTimeOffset.Now;
        Assert.InRange(left.TotalDays, 1.9, 2.1);

        var error = _session.Error($"New-PhaulCertificate {_session.Directory}/own");
        Assert.StartsWith("InvalidRequest,", error.FullyQualifiedErrorId);
        Assert.NotEmpty(error.ErrorDetails.RecommendedAction);
    }

    [Theory]
    [InlineData("Invoke-PhaulMigration 1 -Force", "DestinationMissing")]
    [InlineData("Invoke-PhaulMigration 1 b -UnixSocketPath /x -Force", "DestinationAmbiguous")]
    [InlineData("Invoke-PhaulMigration 1 b -Option @{ NoSuchOption = 1 } -Force", "InvalidOption")]
    [InlineData("Invoke-PhaulMigration 1 b -Option @{ LogLevel = 'high' } -Force", "InvalidOption")]
    [InlineData("Invoke-PhaulMigration 1 b -Certificate /nowhere -Force", "CertificateNotUsable")]
    [InlineData("Invoke-PhaulMigration 1 b -Certificate CERT -TrustedCertificate ('AB' * 20) -Force", "TrustedCertificateNotUsable")]
    [InlineData("Invoke-PhaulMigration 1 b -Certificate CERT -TrustedCertificate /nowhere -Force", "TrustedCertificateNotUsable")]
    [InlineData("Get-PhaulServer 99", "ServerNotFound")]
    [InlineData("Stop-PhaulServer 99", "ServerNotFound")]
    [InlineData("Get-PhaulIteration -Last -StateDirectory STATE", "MigrationNotFound")]
    [InlineData("Get-PhaulMigration 20260101T000000-00000000 -StateDirectory STATE", "MigrationNotFound")]
    public void What_cannot_be_right_is_refused_with_a_stable_id_and_advice(string script, string errorId)
    {
        _session.Run($"New-PhaulCertificate {_session.Directory}/cert");
        var error = _session.Error(script.Replace("CERT", $"{_session.Directory}/cert").Replace("STATE", $"{_session.Directory}/none"));
        Assert.StartsWith(errorId + ",Phaul.PowerShell.Cmdlets.", error.FullyQualifiedErrorId);
        Assert.NotEmpty(error.ErrorDetails.RecommendedAction);
    }

    [Fact]
    public void A_process_that_does_not_exist_is_an_error_and_the_next_one_is_tried()
    {
        using var shell = _session.Command(
            "2147483, 2147484 | ForEach-Object { [pscustomobject]@{ Id = $_ } } | "
            + $"Invoke-PhaulMigration -UnixSocketPath /none -StateDirectory {_session.Directory} -Force");
        shell.Invoke();
        Assert.Equal(
            [2147483, 2147484], shell.Streams.Error.Select(error => (int)PSObject.AsPSObject(error.TargetObject).Properties["Id"].Value));
        Assert.All(shell.Streams.Error, error => Assert.StartsWith("ProcessNotFound,", error.FullyQualifiedErrorId));
        Assert.All(shell.Streams.Error, error => Assert.Equal(ErrorCategory.ObjectNotFound, error.CategoryInfo.Category));
    }

    [Theory]
    [InlineData("127.0.0.1 -Port 9 -InsecureLoopback", "-InsecureLoopback", "127.0.0.1:9")]
    [InlineData("-UnixSocketPath /none", "-UnixSocketPath /none", "/none")]
    public void The_target_of_an_error_can_be_piped_in_again(string first, string again, string destination)
    {
        string options = $"-StateDirectory {_session.Directory} -Force";
        var error = _session.Error(
            $"try {{ Invoke-PhaulMigration 2147483 {first} {options} -ErrorAction Stop }} catch {{ $failed = $_ }}; "
            + $"$failed.TargetObject | Invoke-PhaulMigration {again} {options}");
        Assert.StartsWith("ProcessNotFound,", error.FullyQualifiedErrorId);
        Assert.Equal(destination, PSObject.AsPSObject(error.TargetObject).Properties["Destination"].Value);
    }

    [Fact]
    public void A_job_that_fails_has_the_error_and_says_so()
    {
        var job = _session.Run(
            $"$job = Invoke-PhaulMigration 2147483 -UnixSocketPath /none -StateDirectory {_session.Directory} -Force -AsJob -JobName one; "
            + "Wait-Job $job | ForEach-Object State; $job.PSJobTypeName");
        Assert.Equal(["Failed", "PhaulMigrationJob"], job.Select(value => value.ToString()));
        Assert.StartsWith("ProcessNotFound", _session.Error("Receive-Job $job").FullyQualifiedErrorId);
        Assert.Empty(_session.Run("Remove-Job $job; Get-Job"));
    }

    [Theory]
    [InlineData("1d", 86400)]
    [InlineData("'1d'", 86400)]
    [InlineData("86400s", 86400)]
    [InlineData("1440m", 86400)]
    [InlineData("24h", 86400)]
    [InlineData("86400", 86400)]
    [InlineData("86400000ms", 86400)]
    [InlineData("([timespan]'1.00:00:00')", 86400)]
    [InlineData("([decimal]86400)", 86400)]
    public void Times_are_taken_as_people_write_them(string validity, int seconds)
    {
        var made = _session.Run($"New-PhaulCertificate {_session.Directory}/time -Validity {validity}").Single();
        Assert.Equal(seconds, ((DateTimeOffset)made.Properties["NotAfter"].Value - DateTimeOffset.Now).TotalSeconds, tolerance: 600);
    }

    [Theory]
    [InlineData("Invoke-PhaulMigration -Mode S", "StopAndCopy")]
    [InlineData("Invoke-PhaulMigration -Engine ", "Process")]
    [InlineData("Invoke-PhaulMigration -Option ", "@{ LogLevel = ")]
    [InlineData("Invoke-PhaulMigration -Id PID", "PID")]
    public void Tab_completes(string line, string expected)
    {
        // Some process that is there for as long as the test is
        using var sleep = System.Diagnostics.Process.Start("sleep", "1000");
        try
        {
            string id = sleep.Id.ToString();
            line = line.Replace("PID", id[..^1]);
            var matches = _session.Run($"(TabExpansion2 '{line}' {line.Length}).CompletionMatches.CompletionText");
            Assert.Contains(expected.Replace("PID", id), matches.Select(match => match.ToString()));
        }
        finally
        {
            sleep.Kill();
        }
    }
}
