// What a destination server is told.

using System.Net;
using System.Security.Cryptography.X509Certificates;

namespace Phaul;

/// <summary>Where a <see cref="DestinationServer"/> listens, whom it trusts and what it may use.</summary>
public sealed record DestinationServerOptions
{
    /// <summary>The address to listen on; ignored when <see cref="UnixSocketPath"/> is set. Default: all addresses.</summary>
    public IPAddress Address { get; init; } = IPAddress.IPv6Any;

    /// <summary>The TCP port; 0 lets the system choose. Default <see cref="MigrationEndpoint.DefaultPort"/>.</summary>
    public int Port { get; init; } = MigrationEndpoint.DefaultPort;

    /// <summary>Listen on a UNIX socket instead (mode 0600, owner only).</summary>
    public string? UnixSocketPath { get; init; }

    /// <summary>This host's certificate with its private key; required for TCP unless <see cref="InsecureLoopback"/>.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>SHA-256 fingerprints of the source certificates that may connect. Empty with TCP: refused at the start.</summary>
    public IReadOnlyList<string> TrustedFingerprints { get; init; } = [];

    /// <summary>Serve without TLS and authentication; refused unless the address is a loopback address.</summary>
    public bool InsecureLoopback { get; init; }

    /// <summary>The criu binary: a path, or a name looked up in <c>PATH</c>.</summary>
    public string CriuPath { get; init; } = "criu";

    /// <summary>Where images and logs are put; each migration gets a directory of its own inside. Null: <c>images</c> in the state directory.</summary>
    public string? WorkDirectory { get; init; }

    /// <summary>The state directory (journal, history). Null: the default for this user.</summary>
    public string? StateDirectory { get; init; }

    /// <summary>At most so many migrations at once. Default 4.</summary>
    public int MaxMigrations { get; init; } = 4;

    /// <summary>A migration is refused if less than this many bytes would stay free on the work directory's file system. Default 64 MiB.</summary>
    public long MinFreeBytes { get; init; } = 64L << 20;

    /// <summary>
    /// Settle at the start what an earlier process left on this host, as far as it can be settled without a person. What remains is
    /// told by <see cref="DestinationServer.UnresolvedMigrations"/> and <see cref="DestinationServer.Resolved"/>. Default false.
    /// </summary>
    public bool ResolveAtStart { get; init; }

    /// <summary>A peer that is silent for so long is taken for lost. Default 15 s.</summary>
    public TimeSpan PeerTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Images of failed migrations older than this are removed when the server starts and when a migration begins. Default 7 days.</summary>
    public TimeSpan FailedImagesRetention { get; init; } = TimeSpan.FromDays(7);

    /// <summary>Images of so many failed migrations are kept, the latest; those of others are removed at the same times. Default 3.</summary>
    public int MaxFailedImages { get; init; } = 3;

    /// <summary>Raise a <see cref="CriuLogEvent"/> for each line that CRIU logs on this host.</summary>
    public bool FollowCriuLog { get; init; }
}

/// <summary>The life of a server.</summary>
public enum ServerState
{
    /// <summary>Not listening yet.</summary>
    Created,

    /// <summary>Accepting migrations.</summary>
    Listening,

    /// <summary>No new migrations; those under way end.</summary>
    Stopping,

    /// <summary>Everything has ended.</summary>
    Stopped,

    /// <summary>It ended by a fault; see <see cref="DestinationServer.Completion"/>.</summary>
    Faulted,
}

/// <summary>A migration that a server is serving.</summary>
/// <param name="MigrationId">The migration.</param>
/// <param name="Peer">The source's name and address.</param>
/// <param name="State">Its state here.</param>
/// <param name="StartTime">When it was accepted.</param>
/// <param name="BytesReceived">Bytes received so far.</param>
public sealed record ActiveMigration(string MigrationId, string Peer, MigrationState State, DateTimeOffset StartTime, long BytesReceived);
