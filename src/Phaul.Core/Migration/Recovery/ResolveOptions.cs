// What a resolution is told.

using System.Security.Cryptography.X509Certificates;

namespace Phaul;

/// <summary>What a <see cref="MigrationResolver"/> may use.</summary>
public sealed record ResolveOptions
{
    /// <summary>The state directory. Null: the default for this user.</summary>
    public string? StateDirectory { get; init; }

    /// <summary>The criu binary, should a program have to be restored again on this host.</summary>
    public string CriuPath { get; init; } = "criu";

    /// <summary>This host's certificate with its private key; the one that the migration was begun with.</summary>
    public X509Certificate2? Certificate { get; init; }

    /// <summary>The destination's certificates that are accepted. Empty: the one that it showed in the migration.</summary>
    public IReadOnlyList<string> TrustedFingerprints { get; init; } = [];

    /// <summary>Where the destination's server listens now; null: where it did.</summary>
    public MigrationEndpoint? Destination { get; init; }

    /// <summary>Time allowed to connect and authenticate. Default 15 s.</summary>
    public TimeSpan ConnectTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>A destination that is silent for so long is taken for lost. Default 15 s.</summary>
    public TimeSpan PeerTimeout { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>How long a destination that cannot be reached is sought. Default 30 s.</summary>
    public TimeSpan Limit { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>What the operator knows and this host cannot.</summary>
    public OperatorWord Word { get; init; }

    /// <summary>Who settles, for the journal. Default: the user's name.</summary>
    public string By { get; init; } = Environment.UserName;
}
