// Everything that the source of a migration can be told. The common call sets the pid and the destination.

using System.Security.Cryptography.X509Certificates;

namespace Phaul;

/// <summary>One migration, as asked for by a cmdlet, the CLI or a library user.</summary>
public sealed record MigrationRequest
{
    /// <summary>The root pid of the tree to move.</summary>
    public required int Pid { get; init; }

    /// <summary>
    /// When that process began (<see cref="StartTimeOf"/>), if the request may wait before it is run: the pid can be another
    /// program's by then, which is not to be moved. Null: whoever has the pid.
    /// </summary>
    public ulong? ProcessStartTime { get; init; }

    /// <summary>Where to.</summary>
    public required MigrationEndpoint Destination { get; init; }

    /// <summary>How memory moves.</summary>
    public MigrationMode Mode { get; init; } = MigrationMode.Auto;

    /// <summary>What CRIU is told about the tree.</summary>
    public ProcessOptions Options { get; init; } = new();

    /// <summary>
    /// An engine of your own for the last step: it dumps, copies the images that are not pages and restores, in place of Phaul's
    /// hand-over. The destination's server receives the pages, and keeps them below <see cref="PhaulConfig.RemoteWorkDirectory"/>.
    /// That there are never two copies and never none is then this engine's affair. Null: Phaul's own.
    /// </summary>
    public IPhaulLocal? Local { get; init; }

    /// <summary>When pre-copy stops iterating.</summary>
    public ConvergenceOptions Convergence { get; init; } = new();

    /// <summary>The criu binary: a path, or a name looked up in <c>PATH</c>.</summary>
    public string CriuPath { get; init; } = "criu";

    /// <summary>Where this host's images and logs are put; a directory of the migration's own is made inside. Null: <c>images</c> in the state directory.</summary>
    public string? WorkDirectory { get; init; }

    /// <summary>The state directory (journal, history). Null: <see cref="Journal.StateDirectory.DefaultPath"/>.</summary>
    public string? StateDirectory { get; init; }

    /// <summary>Keep images and logs on both hosts after success. After failure they are kept anyway.</summary>
    public bool KeepImages { get; init; }

    /// <summary>Images of failed migrations older than this are removed on this host when a migration begins. Default 7 days.</summary>
    public TimeSpan FailedImagesRetention { get; init; } = TimeSpan.FromDays(7);

    /// <summary>Images of so many failed migrations are kept on this host, the latest. Default 3.</summary>
    public int MaxFailedImages { get; init; } = 3;

    /// <summary>
    /// In modes with iterations: free on the destination's disk what a later iteration has overwritten, so that memory is not held twice there.
    /// </summary>
    public bool AutoDedup { get; init; }

    /// <summary>Limit in bytes per second while the program runs; null for none. At least 64 KiB/s.</summary>
    public long? BandwidthLimit { get; init; }

    /// <summary>Apply <see cref="BandwidthLimit"/> to the frozen part, too.</summary>
    public bool LimitFrozenPart { get; init; }

    /// <summary>The longest time the tree may stay frozen before it is resumed, as long as the commit has not happened. Default 5 minutes.</summary>
    public TimeSpan MaxFrozen { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Time allowed to connect and authenticate. Default 15 s.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>A peer that is silent for so long is taken for lost. Default 15 s.</summary>
    public TimeSpan PeerTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>fsync images and journal before Prepared, so that a power loss after the commit loses nothing.</summary>
    public bool Durable { get; init; }

    /// <summary>
    /// Read all memory back before the program runs, which makes downtime grow with it. By default most of it is read back while
    /// the program runs already, where the destination's criu and kernel can (userfaultfd).
    /// </summary>
    public bool EagerRestore { get; init; }

    /// <summary>
    /// StopAndCopy and PostCopy: before the freeze, have the kernel gather the tree's memory into huge pages where all of one is there
    /// (Linux 6.1). CRIU then has less to walk while the program is frozen: with gigabytes, half of post-copy's downtime. The program
    /// runs meanwhile, a little slower; a minute at most is taken. What cannot be gathered is a warning.
    /// </summary>
    public bool CollapseMemory { get; init; }

    /// <summary>Whether memory is compressed (LZ4) on its way. A destination that cannot unpack it gets it as it is.</summary>
    public CompressionMode Compression { get; init; } = CompressionMode.Auto;

    /// <summary>Raise a <see cref="CriuLogEvent"/> for each line that CRIU logs on this host.</summary>
    public bool FollowCriuLog { get; init; }

    /// <summary>When a process began, in clock ticks since boot; null if there is none of that pid.</summary>
    public static ulong? StartTimeOf(int pid) => Native.ProcessIdentity.StartTime(pid);
}

/// <summary>How to reach a destination, and how both sides know each other.</summary>
public sealed record MigrationEndpoint
{
    /// <summary>The default TCP port of a Phaul server.</summary>
    public const int DefaultPort = 7248;

    /// <summary>Host name or address; null when <see cref="UnixSocketPath"/> is set.</summary>
    public string? Host { get; init; }

    /// <summary>TCP port.</summary>
    public int Port { get; init; } = DefaultPort;

    /// <summary>A UNIX socket on this machine, instead of TCP.</summary>
    public string? UnixSocketPath { get; init; }

    /// <summary>This host's certificate with its private key; required for TCP unless <see cref="InsecureLoopback"/>.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>SHA-256 fingerprints (64 hex digits, colons and case ignored) of the peer certificates that are accepted.</summary>
    public IReadOnlyList<string> TrustedFingerprints { get; init; } = [];

    /// <summary>No TLS and no authentication: accepted only where the address is a loopback address.</summary>
    public bool InsecureLoopback { get; init; }

    /// <inheritdoc/>
    public override string ToString() => UnixSocketPath ?? $"{Host}:{Port}";
}
