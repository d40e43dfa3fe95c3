// `phaul new-certificate`: this host's key and certificate for mutual TLS.

using System.CommandLine;
using Phaul.Cli.Arguments;
using Phaul.Cli.Output;
using Phaul.Transport;

namespace Phaul.Cli.Commands;

/// <summary>Makes the command.</summary>
internal static class NewCertificateCommand
{
    private const int UsualDays = 3650;
    private const int MostDays = 36500;

    /// <summary>`phaul new-certificate`.</summary>
    public static Command Create(Streams streams)
    {
        var directory = new Option<string>("--directory")
        {
            Description = "Where to put both",
            HelpName = "DIR",
            DefaultValueFactory = _ => HostCertificate.DefaultDirectory,
        };
        var name = new Option<string>("--name")
        {
            Description = "The host's name in the certificate",
            HelpName = "NAME",
            DefaultValueFactory = _ => Environment.MachineName,
        };
        var days = Quantities.Number("--days", "Valid for so many days", UsualDays, 1, MostDays);
        var force = new Option<bool>("--force") { Description = "Replace what is there; hosts that pinned the old certificate then refuse this one" };
        var json = CommandRun.Json();
        var command = new Command(
            "new-certificate", "Makes this host's key (ECDSA P-256, mode 0600) and certificate and prints the fingerprint that other hosts pin with --trust.")
        {
            directory, name, days, force, json,
        };

        command.SetAction((arguments, _) => CommandRun.WithDisplayAsync(
            streams, arguments.GetValue(json), new TextDisplay(streams, verbose: false), async pump =>
            {
                using var certificate = HostCertificate.Create(arguments.GetValue(name)!, TimeSpan.FromDays(arguments.GetValue(days)));
                var files = HostCertificate.Save(certificate, arguments.GetValue(directory)!, arguments.GetValue(force));
                var line = new CertificateLine(
                    DateTimeOffset.UtcNow, files.CertificatePath, files.KeyPath, HostCertificate.Fingerprint(certificate), certificate.NotAfter);
                await pump.ReportAsync(
                    line,
                    $"certificate  {line.CertificatePath}\nkey          {line.KeyPath}\nvalid until  {line.ExpiryTime:yyyy-MM-dd}\nfingerprint  {line.Fingerprint}");
                return ExitCode.Done;
            }));
        return command;
    }
}
