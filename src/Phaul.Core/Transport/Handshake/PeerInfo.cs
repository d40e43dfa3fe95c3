// What the two sides tell each other about themselves when they meet.

using System.Reflection;
using System.Runtime.InteropServices;

namespace Phaul.Transport;

/// <summary>The other side of a connection, as it described itself. Text in it is printable and bounded, but otherwise the
/// peer's word.</summary>
public sealed record PeerInfo
{
    /// <summary>The address or path it is reached by.</summary>
    public required string Address { get; init; }

    /// <summary>Its host name.</summary>
    public required string HostName { get; init; }

    /// <summary>Its version of Phaul.</summary>
    public required string PhaulVersion { get; init; }

    /// <summary>The protocol version that both speak on this connection.</summary>
    public required int ProtocolVersion { get; init; }

    /// <summary>What it can do beyond the protocol version.</summary>
    public required IReadOnlyList<string> Capabilities { get; init; }

    /// <summary>Its machine architecture, as <c>uname -m</c> spells it.</summary>
    public required string Architecture { get; init; }

    /// <summary>Its kernel release, as <c>uname -r</c> spells it.</summary>
    public required string KernelRelease { get; init; }

    /// <summary>The id of its kernel's present run.</summary>
    public required string BootId { get; init; }

    /// <summary>The fingerprint of its certificate, which was found among the trusted ones; null without TLS.</summary>
    public string? Fingerprint { get; init; }

    /// <inheritdoc/>
    public override string ToString() => HostName == Address ? Address : $"{HostName} ({Address})";
}

/// <summary>This host, as it describes itself to peers.</summary>
internal static class ThisHost
{
    public static string PhaulVersion { get; } =
        typeof(ThisHost).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0";

    public static string Architecture { get; } = RuntimeInformation.OSArchitecture switch
    {
        System.Runtime.InteropServices.Architecture.X64 => "x86_64",
        System.Runtime.InteropServices.Architecture.X86 => "i686",
        System.Runtime.InteropServices.Architecture.Arm64 => "aarch64",
        System.Runtime.InteropServices.Architecture.S390x => "s390x",
        System.Runtime.InteropServices.Architecture.Ppc64le => "ppc64le",
        var other => other.ToString().ToLowerInvariant(),
    };

    public static string HostName => ReadKernel("hostname");

    public static string KernelRelease => ReadKernel("osrelease");

    public static string BootId => ReadKernel("random/boot_id");

    private static string ReadKernel(string name)
    {
        try
        {
            return File.ReadAllText("/proc/sys/kernel/" + name).Trim();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return "unknown";
        }
    }
}
