// A running server as this session sees it.

using System.Management.Automation;
using System.Net;

namespace Phaul.PowerShell.Objects;

/// <summary>What Start-PhaulServer returns: always up to date, until the server is stopped and then as it ended.</summary>
public sealed class PhaulServerInfo
{
    /// <summary>The type name that formats and scripts know it by. The class has another: Phaul.Core has a PhaulServer.</summary>
    public const string ShownTypeName = "PhaulServer";

    internal PhaulServerInfo(int id, Guid runspaceId, DestinationServer server)
    {
        Id = id;
        RunspaceId = runspaceId;
        Server = server;
        StartTime = DateTimeOffset.Now;
    }

    /// <summary>Its number in this session.</summary>
    public int Id { get; }

    /// <summary>Its state.</summary>
    public ServerState State => Server.State;

    /// <summary>The address it listens on; null for a UNIX socket.</summary>
    public IPAddress? Address => (Server.LocalEndPoint as IPEndPoint)?.Address;

    /// <summary>The TCP port it listens on, the real one where the system chose it; null for a UNIX socket.</summary>
    public int? Port => (Server.LocalEndPoint as IPEndPoint)?.Port;

    /// <summary>The UNIX socket it listens on; null for TCP.</summary>
    public string? UnixSocketPath => Server.Options.UnixSocketPath;

    /// <summary>The SHA-256 fingerprint that sources pin; null without TLS.</summary>
    public string? Fingerprint => Server.Fingerprint;

    /// <summary>The sources that may connect.</summary>
    public IReadOnlyList<string> TrustedFingerprints => Server.Options.TrustedFingerprints;

    /// <summary>The migrations being served now.</summary>
    public IReadOnlyList<ActiveMigration> ActiveMigrations => Server.ActiveMigrations;

    /// <summary>At most so many at once.</summary>
    public int MaxMigrations => Server.Options.MaxMigrations;

    /// <summary>Migrations that a crash left unresolved, found at the start.</summary>
    public IReadOnlyList<string> UnresolvedMigrations => Server.UnresolvedMigrations;

    /// <summary>When it was started.</summary>
    public DateTimeOffset StartTime { get; }

    /// <summary>Why it ended by itself; null if it did not.</summary>
    public string? Error => Server.Completion is { IsFaulted: true, Exception: { } fault } ? fault.GetBaseException().Message : null;

    internal DestinationServer Server { get; }

    internal Guid RunspaceId { get; }

    /// <summary>The object as the cmdlets emit it, under its shown name.</summary>
    internal PSObject Shown()
    {
        PSObject shown = PSObject.AsPSObject(this);
        if (shown.TypeNames[0] != ShownTypeName)
        {
            shown.TypeNames.Insert(0, ShownTypeName);
        }

        return shown;
    }

    /// <inheritdoc/>
    public override string ToString() => UnixSocketPath ?? (Server.LocalEndPoint?.ToString() ?? $"server {Id}");
}
