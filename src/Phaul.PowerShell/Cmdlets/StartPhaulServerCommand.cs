// Start-PhaulServer: the destination, in this session.

using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Net;
using System.Runtime.InteropServices;
using Phaul.PowerShell.Migrating;
using Phaul.PowerShell.Objects;
using Phaul.PowerShell.Parameters;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>Starts a server and returns at once, or with -Wait serves until it is stopped.</summary>
[Cmdlet(VerbsLifecycle.Start, "PhaulServer", SupportsShouldProcess = true, DefaultParameterSetName = TcpSet)]
[OutputType(typeof(PhaulServerInfo))]
public sealed class StartPhaulServerCommand : TrustCmdlet
{
    private const string TcpSet = "Tcp";
    private const string UnixSet = "UnixSocket";

    /// <summary>The address to listen on.</summary>
    [Parameter(Position = 0, ParameterSetName = TcpSet)]
    [ValidateNotNull]
    public IPAddress Address { get; set; } = IPAddress.IPv6Any;

    /// <summary>The TCP port; 0 lets the system choose.</summary>
    [Parameter(Position = 1, ParameterSetName = TcpSet)]
    [ValidateRange(0, 65535)]
    public int Port { get; set; } = MigrationEndpoint.DefaultPort;

    /// <summary>Listen on a UNIX socket instead.</summary>
    [Parameter(Mandatory = true, ParameterSetName = UnixSet)]
    [ValidateNotNullOrEmpty]
    public string? UnixSocketPath { get; set; }

    /// <summary>At most so many migrations at once.</summary>
    [Parameter]
    [ValidateRange(1, 1000)]
    public int MaxMigrations { get; set; } = 4;

    /// <summary>Refuse migrations that would leave less than this many bytes free.</summary>
    [Parameter]
    [ValidateRange(0, long.MaxValue)]
    public long MinFreeBytes { get; set; } = 64L << 20;

    /// <summary>Images of failed migrations older than this are removed at the start.</summary>
    [Parameter]
    [Duration]
    public TimeSpan FailedImagesRetention { get; set; } = TimeSpan.FromDays(7);

    /// <summary>Settle at the start what an earlier crash left, as far as that takes no person.</summary>
    [Parameter]
    public SwitchParameter Resolve { get; set; }

    /// <summary>Serve in the foreground, until Ctrl+C or SIGTERM.</summary>
    [Parameter]
    public SwitchParameter Wait { get; set; }

    /// <inheritdoc/>
    protected override void EndProcessing()
    {
        string where = UnixSocketPath is null ? new IPEndPoint(Address, Port).ToString() : FullPath(UnixSocketPath)!;
        if (!ShouldProcess(where, "Serve migrations"))
        {
            return;
        }

        DestinationServerOptions options = Options();
        // In the background there is no pipeline to speak to: Get-PhaulServer and the records in the state directory tell
        var server = new DestinationServer(options, Wait ? new ServerNarrator(Streams) : null);
        if (Wait)
        {
            server.Notice += Streams.WriteWarning;
        }

        AwaitOrTerminate<object?>(
            async token =>
            {
                try
                {
                    await server.StartAsync(token).ConfigureAwait(false);
                    return null;
                }
                catch
                {
                    await server.DisposeAsync().ConfigureAwait(false);
                    throw;
                }
            },
            where);

        PhaulServerInfo info = SessionServers.Add(server, Runspace.DefaultRunspace.InstanceId);
        foreach (string migration in info.UnresolvedMigrations)
        {
            Warn($"Migration {migration} was left unresolved by a crash; settle it with Resolve-PhaulMigration.");
        }

        try
        {
            WriteObject(info.Shown());
        }
        catch (PipelineStoppedException) when (Wait)
        {
            // Stopped before it began to wait: fall through to the stop
        }

        if (Wait)
        {
            Serve(info);
        }
    }

    private DestinationServerOptions Options()
    {
        (var certificate, IReadOnlyList<string> trusted) = ResolveTrust(withoutTls: UnixSocketPath is not null || InsecureLoopback);
        return new DestinationServerOptions
        {
            Address = Address,
            Port = Port,
            UnixSocketPath = FullPath(UnixSocketPath),
            Certificate = certificate,
            TrustedFingerprints = trusted,
            InsecureLoopback = InsecureLoopback,
            CriuPath = FullCriuPath,
            WorkDirectory = FullPath(WorkDirectory),
            StateDirectory = FullPath(StateDirectory),
            MaxMigrations = MaxMigrations,
            MinFreeBytes = MinFreeBytes,
            PeerTimeout = PeerTimeout,
            FailedImagesRetention = FailedImagesRetention,
            FollowCriuLog = Wait && IsDebugging,
            ResolveAtStart = Resolve,
        };
    }

    // systemd stops a service with SIGTERM: the server then ends as with Ctrl+C, and the script after this line goes on
    private void Serve(PhaulServerInfo info) =>
        Await(async stopped =>
        {
            using var end = CancellationTokenSource.CreateLinkedTokenSource(stopped);
            using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context =>
            {
                context.Cancel = true;
                end.Cancel();
            });
            try
            {
                await info.Server.Completion.WaitAsync(end.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException)
            {
                Streams.WriteVerbose("Stopping: migrations that are not prepared are rolled back.");
            }
            finally
            {
                await SessionServers.StopAsync(info, CancellationToken.None).ConfigureAwait(false);
            }
        });
}
