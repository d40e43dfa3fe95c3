// Resolve-PhaulMigration: settles what crashes have left on this host.

using System.Management.Automation;
using System.Security.Cryptography.X509Certificates;
using Phaul.Journal;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Trust;
using Phaul.Transport;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Emits what was found and done, one object a side of a migration; what remains to be done is an error, too.</summary>
[Cmdlet(VerbsDiagnostic.Resolve, "PhaulMigration", DefaultParameterSetName = ByIdSet, SupportsShouldProcess = true)]
[OutputType(typeof(MigrationResolution))]
public sealed class ResolvePhaulMigrationCommand : HistoryCmdlet
{
    private const string ByIdSet = "Id";
    private const string AllSet = "All";

    /// <summary>The ids; wildcards may be used.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ByIdSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(MigrationIdCompleter))]
    [ValidateNotNullOrEmpty]
    public string[] MigrationId { get; set; } = [];

    /// <summary>All migrations of this host that need it.</summary>
    [Parameter(Mandatory = true, ParameterSetName = AllSet)]
    public SwitchParameter All { get; set; }

    /// <summary>On the destination: the source is gone for good, and the held copy is to run.</summary>
    [Parameter(ParameterSetName = ByIdSet)]
    public SwitchParameter SourceIsGone { get; set; }

    /// <summary>On the destination: the program runs on the source, and the held copy is to be discarded.</summary>
    [Parameter(ParameterSetName = ByIdSet)]
    public SwitchParameter SourceIsRunning { get; set; }

    /// <summary>Do not ask before acting on SourceIsGone or SourceIsRunning.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    /// <summary>Where the destination is now, if not where it was.</summary>
    [Parameter]
    [Alias("HostName", "Cn")]
    [ValidateNotNullOrEmpty]
    public string? ComputerName { get; set; }

    /// <summary>The TCP port of its server, with ComputerName.</summary>
    [Parameter]
    [ValidateRange(1, 65535)]
    public int Port { get; set; } = MigrationEndpoint.DefaultPort;

    /// <summary>This host's certificate, as the migration was begun with it.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public object? Certificate { get; set; }

    /// <summary>The destination's certificates to accept. Default: the one that it showed in the migration.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public object[]? TrustedCertificate { get; set; }

    /// <summary>The criu binary.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string CriuPath { get; set; } = "criu";

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        if (SourceIsGone && SourceIsRunning)
        {
            ThrowTerminatingError(FailureRecord.InvalidParameter(
                "WordsContradict", "SourceIsGone and SourceIsRunning exclude each other.", "Give one of them, or none.", null));
        }
    }

    /// <inheritdoc/>
    protected override void ProcessRecord()
    {
        IEnumerable<string> ids = All
            ? AwaitOrTerminate(token => History.ReadAsync(token), Directory.Path)
                .Where(summary => summary.NeedsResolution || summary.HasLeftovers).Select(summary => summary.MigrationId).Distinct().Reverse()
            : MigrationId.SelectMany(Matching);
        foreach (string id in ids)
        {
            if (ShouldProcess(id, Action) && IsConfirmed(id))
            {
                Resolve(id);
            }
        }
    }

    private string Action => SourceIsGone ? "Run the held copy" : SourceIsRunning ? "Discard the held copy" : "Settle the migration";

    private bool IsConfirmed(string id) =>
        Force
        || !(SourceIsGone || SourceIsRunning)
        || ShouldContinue(
            SourceIsGone
                ? $"The held copy of migration {id} will run. If the program still runs on the source, it then runs twice. Is the source gone for good?"
                : $"The held copy of migration {id} will be discarded. If the program does not run on the source, it is lost but for its images. Does it run there?",
            Action);

    private void Resolve(string id)
    {
        var resolver = new MigrationResolver(new ResolveOptions
        {
            StateDirectory = Directory.Path,
            CriuPath = CriuPath.Contains('/') ? GetUnresolvedProviderPathFromPSPath(CriuPath) : CriuPath,
            Certificate = OwnCertificate(),
            TrustedFingerprints = TrustedCertificate is null ? [] : CertificateSource.Fingerprints(TrustedCertificate, FullPath),
            Destination = ComputerName is null ? null : new MigrationEndpoint { Host = ComputerName, Port = Port },
            Word = SourceIsGone ? OperatorWord.SourceIsGone : SourceIsRunning ? OperatorWord.SourceIsRunning : OperatorWord.None,
            By = $"Resolve-PhaulMigration, {Environment.UserName}",
        });
        foreach (MigrationResolution resolution in AwaitOrTerminate(token => resolver.ResolveAsync(id, token), id))
        {
            WriteObject(resolution);
            if (resolution.Outcome is ResolutionOutcome.Unresolved or ResolutionOutcome.InProgress)
            {
                WriteError(FailureRecord.From(
                    new PhaulException(PhaulErrorId.InDoubt, $"Migration {id} is not settled: {resolution.Found}")
                    {
                        ProgramState = resolution.ProgramState,
                        RecommendedAction = resolution.Remains,
                    },
                    id));
            }
        }
    }

    // Whoever settles a migration may not have to speak to anybody: a certificate that is not there is missed only then
    private X509Certificate2? OwnCertificate()
    {
        try
        {
            return Certificate is null && !File.Exists(Path.Combine(HostCertificate.DefaultDirectory, HostCertificate.CertificateFileName))
                ? null
                : CertificateSource.Own(Certificate, FullPath);
        }
        catch (CertificateSourceException wrong)
        {
            ThrowTerminatingError(FailureRecord.InvalidParameter(
                wrong.ErrorId, wrong.Message, wrong.RecommendedAction, wrong.Value, wrong.InnerException));
            throw;
        }
    }

    private string FullPath(string path) => GetUnresolvedProviderPathFromPSPath(path);
}
