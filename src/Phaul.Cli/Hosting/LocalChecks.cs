// What can be said of this host alone: is there a criu that works on this kernel, and may we use it?

using System.Diagnostics;

namespace Phaul.Cli.Hosting;

/// <summary>The checks of `phaul check` without a PID.</summary>
internal static class LocalChecks
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(30);

    // Bits of the effective capability set (capabilities(7)) 
    private const int SysAdmin = 21;
    private const int SysPtrace = 19;
    private const int SysResource = 24;
    private const int CheckpointRestore = 40;

    private static readonly (string Feature, string Name, string Lost)[] Features =
    [
        ("mem_dirty_track", "DirtyTracking", "pre-copy does not work here, Auto chooses stop-and-copy; prefetch works"),
        ("uffd-noncoop", "LazyRestore", "memory is read back before the program resumes, and post-copy does not work to here"),
        ("pidfd_store", "PidfdStore", "CRIU cannot tell reused pids between iterations"),
    ];

    /// <summary>Runs them.</summary>
    public static async Task<IReadOnlyList<CheckResult>> RunAsync(string criuPath, CancellationToken cancellationToken)
    {
        var checks = new List<CheckResult> { Capabilities() };
        var (version, versionText) = await CriuAsync(criuPath, ["--version"], cancellationToken);
        if (version != 0)
        {
            checks.Add(Check("Criu", CheckVerdict.Failed, versionText, "install criu, or name it with --criu"));
            return checks;
        }

        checks.Add(Check("Criu", CheckVerdict.Passed, $"{criuPath}, {string.Join(", ", Lines(versionText))}"));
        var (check, checkText) = await CriuAsync(criuPath, ["check"], cancellationToken);
        checks.Add(check == 0
            ? Check("Kernel", CheckVerdict.Passed, Lines(checkText).LastOrDefault() ?? "criu check has nothing to say")
            : Check("Kernel", CheckVerdict.Failed, Lines(checkText).LastOrDefault() ?? $"criu check ended with {check}", $"see `{criuPath} check`"));
        foreach (var (feature, name, lost) in Features)
        {
            var (code, _) = await CriuAsync(criuPath, ["check", "--feature", feature], cancellationToken);
            checks.Add(code == 0
                ? Check(name, CheckVerdict.Passed, $"{feature} works")
                : Check(name, CheckVerdict.Warning, $"no {feature}: {lost}"));
        }

        return checks;
    }

    private static CheckResult Capabilities()
    {
        var line = File.ReadLines("/proc/self/status").First(line => line.StartsWith("CapEff:", StringComparison.Ordinal));
        var effective = Convert.ToUInt64(line["CapEff:".Length..].Trim(), 16);
        bool Has(int bit) => (effective >> bit & 1) != 0;
        if (!Has(SysAdmin) && !(Has(CheckpointRestore) && Has(SysPtrace)))
            return Check("Capabilities", CheckVerdict.Failed, "neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE with CAP_SYS_PTRACE", "run as root");
        return Has(SysResource)
            ? Check("Capabilities", CheckVerdict.Passed, "all that CRIU needs")
            : Check("Capabilities", CheckVerdict.Warning, "no CAP_SYS_RESOURCE: programs of other users cannot be dumped");
    }

    private static CheckResult Check(string name, CheckVerdict verdict, string message, string? remedy = null) =>
        new(name, MigrationSide.Source, Environment.MachineName, verdict, message, remedy);

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    private static async Task<(int ExitCode, string Text)> CriuAsync(string criuPath, string[] arguments, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Limit);
        using var criu = new System.Diagnostics.Process
        {
            StartInfo = new ProcessStartInfo(criuPath, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true },
        };
        try
        {
            criu.Start();
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (-1, $"{criuPath} cannot be started: {e.Message}");
        }

        try
        {
            criu.StandardInput.Close();
            var output = criu.StandardOutput.ReadToEndAsync(limit.Token);
            var error = criu.StandardError.ReadToEndAsync(limit.Token);
            await criu.WaitForExitAsync(limit.Token);
            return (criu.ExitCode, await output + await error);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return (-1, $"{criuPath} {string.Join(' ', arguments)} did not end within {Limit.TotalSeconds:0} s");
        }
        finally
        {
            if (!criu.HasExited)
                criu.Kill(entireProcessTree: true);
        }
    }
}
