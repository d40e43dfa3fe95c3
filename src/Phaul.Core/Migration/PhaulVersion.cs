// Which Phaul this is.

using System.Reflection;

namespace Phaul;

/// <summary>The version of this build.</summary>
public static class PhaulVersion
{
    /// <summary>As in <c>0.1.0</c>, without build metadata.</summary>
    public static string Current { get; } =
        typeof(PhaulVersion).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]
        ?? "0.0.0";
}
