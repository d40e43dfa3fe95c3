// New-PhaulCertificate: a host's key and certificate.

using System.Management.Automation;
using System.Security.Cryptography.X509Certificates;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Objects;
using Phaul.PowerShell.Parameters;
using Phaul.Transport;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Makes an ECDSA P-256 key and a self-signed certificate, for both ends of mutual TLS.</summary>
[Cmdlet(VerbsCommon.New, "PhaulCertificate", SupportsShouldProcess = true)]
[OutputType(typeof(PhaulCertificate))]
public sealed class NewPhaulCertificateCommand : PhaulCmdlet
{
    /// <summary>The directory for both files.</summary>
    [Parameter(Position = 0)]
    [Alias("Directory")]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    /// <summary>The name in the certificate, for people.</summary>
    [Parameter]
    [ValidateLength(1, 64)]
    public string Name { get; set; } = Environment.MachineName;

    /// <summary>How long it is good.</summary>
    [Parameter]
    [Duration]
    public TimeSpan Validity { get; set; } = TimeSpan.FromDays(3650);

    /// <summary>Replace what is there.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        string directory = Path is null ? HostCertificate.DefaultDirectory : GetUnresolvedProviderPathFromPSPath(Path);
        if (!ShouldProcess(directory, "Make a key and a certificate"))
        {
            return;
        }

        try
        {
            X509Certificate2 certificate = HostCertificate.Create(Name, Validity);
            HostCertificateFiles files = HostCertificate.Save(certificate, directory, Force);
            WriteObject(new PhaulCertificate(certificate, HostCertificate.Fingerprint(certificate), files.CertificatePath, files.KeyPath));
        }
        catch (PhaulException failure)
        {
            ThrowTerminatingError(FailureRecord.From(failure, directory));
        }
    }
}
