// The parameters of cmdlets that speak to another host: who this host is, whom it trusts, and where its own things are.

using System.Management.Automation;
using System.Security.Cryptography.X509Certificates;
using Phaul.PowerShell.Parameters;
using Phaul.PowerShell.Trust;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>The base of the cmdlets that take part in migrations.</summary>
public abstract class TrustCmdlet : PhaulCmdlet
{
    private (X509Certificate2? Certificate, IReadOnlyList<string> Trusted)? _trust;

    /// <summary>This host's certificate: a directory or file, or an X509Certificate2 with its key. Default: its own.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public object? Certificate { get; set; }

    /// <summary>The peers to trust: fingerprints, paths of certificates, or X509Certificate2. Default: the host's.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public object[]? TrustedCertificate { get; set; }

    /// <summary>No TLS and no authentication; only where the address is a loopback address.</summary>
    [Parameter]
    public SwitchParameter InsecureLoopback { get; set; }

    /// <summary>The criu binary.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string CriuPath { get; set; } = "criu";

    /// <summary>Where images and logs are put.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? WorkDirectory { get; set; }

    /// <summary>Where the journal and the history of migrations are.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? StateDirectory { get; set; }

    /// <summary>A peer that is silent for so long is taken for lost.</summary>
    [Parameter]
    [Duration]
    public TimeSpan PeerTimeout { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>A path as the user meant it: relative to PowerShell's location, not to the process's directory.</summary>
    private protected string? FullPath(string? path) => path is null ? null : GetUnresolvedProviderPathFromPSPath(path);

    /// <summary>The criu binary; a name without a slash is left to be looked up in PATH.</summary>
    private protected string FullCriuPath => CriuPath.Contains('/') ? FullPath(CriuPath)! : CriuPath;

    /// <summary>This host's certificate and the fingerprints to accept; nothing where no TLS is spoken.</summary>
    private protected (X509Certificate2? Certificate, IReadOnlyList<string> Trusted) ResolveTrust(bool withoutTls)
    {
        if (withoutTls)
        {
            return (null, []);
        }

        try
        {
            // Once, however many processes come down the pipeline
            return _trust ??= (
                CertificateSource.Own(Certificate, path => FullPath(path)!), CertificateSource.Fingerprints(TrustedCertificate, path => FullPath(path)!));
        }
        catch (CertificateSourceException wrong)
        {
            ThrowTerminatingError(Errors.FailureRecord.InvalidParameter(
                wrong.ErrorId, wrong.Message, wrong.RecommendedAction, wrong.Value, wrong.InnerException));
            throw;
        }
    }
}
