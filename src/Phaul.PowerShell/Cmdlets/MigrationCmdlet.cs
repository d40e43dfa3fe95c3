// The parameters that say what is migrated, where to and how: the same for a migration and for its checks alone.

using System.Collections;
using System.Diagnostics;
using System.Management.Automation;
using Phaul.PowerShell.Completion;
using Phaul.PowerShell.Errors;
using Phaul.PowerShell.Migrating;
using Phaul.PowerShell.Parameters;

namespace Phaul.PowerShell.Cmdlets;

/// <summary>The base of Invoke-PhaulMigration and Test-PhaulMigration: turns parameters into requests.</summary>
public abstract class MigrationCmdlet : TrustCmdlet
{
    private protected const string ByIdSet = "Id";
    private protected const string ByProcessSet = "Process";

    // ---- what -----------------------------------------------------------------------------------------------------------

    /// <summary>The pids of the roots of the trees.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = ByIdSet, ValueFromPipelineByPropertyName = true)]
    [Alias("Pid", "ProcessId")]
    [ValidateRange(1, int.MaxValue)]
    [ArgumentCompleter(typeof(ProcessIdCompleter))]
    public int[] Id { get; set; } = [];

    /// <summary>The root processes, as Get-Process gives them.</summary>
    [Parameter(Mandatory = true, ParameterSetName = ByProcessSet, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    public Process[] InputObject { get; set; } = [];

    /// <summary>What kind of thing is migrated.</summary>
    [Parameter]
    [ValidateSet("Process", IgnoreCase = true)]
    public string Engine { get; set; } = "Process";

    // ---- where to -------------------------------------------------------------------------------------------------------

    /// <summary>The destination: a host name or an address.</summary>
    [Parameter(Position = 1, ParameterSetName = ByIdSet, ValueFromPipelineByPropertyName = true)]
    [Parameter(Position = 0, ParameterSetName = ByProcessSet, ValueFromPipelineByPropertyName = true)]
    [Alias("HostName", "Cn")]
    public string? ComputerName { get; set; }

    /// <summary>The TCP port of the destination's server.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ValidateRange(1, 65535)]
    public int Port { get; set; } = MigrationEndpoint.DefaultPort;

    /// <summary>The UNIX socket of a server on this machine, instead of a computer name.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? UnixSocketPath { get; set; }

    // ---- how memory moves -----------------------------------------------------------------------------------------------

    /// <summary>How memory moves.</summary>
    [Parameter]
    public MigrationMode Mode { get; set; } = MigrationMode.Auto;

    /// <summary>At most so many iterations while the program runs.</summary>
    [Parameter]
    [ValidateRange(1, 1000)]
    public int MaxIterations { get; set; } = 8;

    /// <summary>Hand over as soon as the predicted downtime fits.</summary>
    [Parameter]
    [Duration]
    public TimeSpan? MaxDowntime { get; set; }

    /// <summary>The longest time the tree may stay frozen.</summary>
    [Parameter]
    [Duration]
    public TimeSpan MaxFrozen { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Limit in bytes per second while the program runs.</summary>
    [Parameter]
    [ValidateRange(64L << 10, long.MaxValue)]
    public long? BandwidthLimit { get; set; }

    // ---- what such a process needs --------------------------------------------------------------------------------------

    /// <summary>Move file locks.</summary>
    [Parameter]
    public SwitchParameter FileLocks { get; set; }

    /// <summary>Move established TCP connections.</summary>
    [Parameter]
    public SwitchParameter TcpEstablished { get; set; }

    /// <summary>UNIX sockets may be connected to processes outside of the tree.</summary>
    [Parameter]
    public SwitchParameter ExternalUnixSockets { get; set; }

    /// <summary>The tree has a controlling terminal.</summary>
    [Parameter]
    public SwitchParameter ShellJob { get; set; }

    /// <summary>Unlinked files may be linked back temporarily.</summary>
    [Parameter]
    public SwitchParameter LinkRemap { get; set; }

    /// <summary>The largest unlinked open file that is carried along, in bytes.</summary>
    [Parameter]
    public uint GhostLimit { get; set; } = 1 << 20;

    /// <summary>Treatment of cgroups.</summary>
    [Parameter]
    public CgroupMode ManageCgroups { get; set; } = CgroupMode.Ignore;

    /// <summary>The root file system in which the tree is restored.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Root { get; set; }

    /// <summary>External resources, as CRIU spells them.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string[] External { get; set; } = [];

    // ---- the rest -------------------------------------------------------------------------------------------------------

    /// <summary>Keep images and logs after success.</summary>
    [Parameter]
    public SwitchParameter KeepImages { get; set; }

    /// <summary>Make everything durable before the program moves.</summary>
    [Parameter]
    public SwitchParameter Durable { get; set; }

    /// <summary>Read all memory back before the program runs.</summary>
    [Parameter]
    public SwitchParameter EagerRestore { get; set; }

    /// <summary>Compress memory on its way.</summary>
    [Parameter]
    public CompressionMode Compression { get; set; } = CompressionMode.Auto;

    /// <summary>Rare options by name.</summary>
    [Parameter]
    [ValidateNotNull]
    [ArgumentCompleter(typeof(OptionCompleter))]
    public Hashtable Option { get; set; } = [];

    /// <inheritdoc/>
    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        try
        {
            // Wrong names are refused before the first process comes down the pipeline
            RareOptions.Apply(Option, new MigrationRequest { Pid = 1, Destination = new MigrationEndpoint() });
        }
        catch (PSArgumentException wrong)
        {
            ThrowTerminatingError(FailureRecord.InvalidParameter(
                "InvalidOption", wrong.Message, "See the parameter Option in the help for the names and what they take.", Option, wrong));
        }
    }

    /// <summary>The requests for what came down the pipeline in this record.</summary>
    private protected IEnumerable<MigrationRequest> Requests()
    {
        MigrationEndpoint destination = Destination();
        IEnumerable<int> ids = ParameterSetName == ByProcessSet ? InputObject.Select(process => process.Id) : Id;
        foreach (int id in ids)
        {
            yield return RareOptions.Apply(Option, new MigrationRequest
            {
                Pid = id,
                ProcessStartTime = MigrationRequest.StartTimeOf(id),
                Destination = destination,
                Mode = Mode,
                Options = new ProcessOptions
                {
                    FileLocks = FileLocks,
                    TcpEstablished = TcpEstablished,
                    ExternalUnixSockets = ExternalUnixSockets,
                    ShellJob = ShellJob,
                    LinkRemap = LinkRemap,
                    GhostLimit = GhostLimit,
                    ManageCgroups = ManageCgroups,
                    Root = Root,
                    External = External,
                },
                Convergence = new ConvergenceOptions { MaxIterations = MaxIterations, MaxDowntime = MaxDowntime },
                CriuPath = FullCriuPath,
                WorkDirectory = FullPath(WorkDirectory),
                StateDirectory = FullPath(StateDirectory),
                KeepImages = KeepImages,
                BandwidthLimit = BandwidthLimit,
                MaxFrozen = MaxFrozen,
                PeerTimeout = PeerTimeout,
                Durable = Durable,
                EagerRestore = EagerRestore,
                Compression = Compression,
                FollowCriuLog = IsDebugging,
            });
        }
    }

    private MigrationEndpoint Destination()
    {
        string? computer = string.IsNullOrEmpty(ComputerName) ? null : ComputerName, socket = UnixSocketPath;
        bool isComputerGiven = MyInvocation.BoundParameters.ContainsKey(nameof(ComputerName));
        if (computer is not null && socket is not null
            && isComputerGiven != MyInvocation.BoundParameters.ContainsKey(nameof(UnixSocketPath)))
        {
            // The other one is a preference
            computer = isComputerGiven ? computer : null;
            socket = isComputerGiven ? null : socket;
        }

        if (computer is null == socket is null)
        {
            ThrowTerminatingError(FailureRecord.InvalidParameter(
                computer is null ? "DestinationMissing" : "DestinationAmbiguous",
                computer is null ? "No destination was given." : "Both a computer name and a UNIX socket were given.",
                "Give -ComputerName, or -UnixSocketPath for a server on this machine.", computer));
        }

        (var certificate, IReadOnlyList<string> trusted) = ResolveTrust(withoutTls: socket is not null || InsecureLoopback);
        return new MigrationEndpoint
        {
            Host = computer,
            Port = Port,
            UnixSocketPath = FullPath(socket),
            Certificate = certificate,
            TrustedFingerprints = trusted,
            InsecureLoopback = InsecureLoopback,
        };
    }
}
