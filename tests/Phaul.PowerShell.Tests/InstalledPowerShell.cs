// Lets the tests run against the assemblies of an installed pwsh, which are referenced and not copied.

using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;

namespace Phaul.PowerShell.Tests;

internal static class InstalledPowerShell
{
    /// <summary>Where pwsh is installed; empty where PowerShell comes from a package.</summary>
    public static string Home { get; } = Metadata("PowerShellHome");

    public static string Metadata(string key) =>
        typeof(InstalledPowerShell).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(one => one.Key == key).Value ?? "";

    [ModuleInitializer]
    internal static void ResolveFromHome() => AssemblyLoadContext.Default.Resolving += (context, name) =>
    {
        string path = Path.Combine(Home, name.Name + ".dll");
        return Home.Length > 0 && File.Exists(path) ? context.LoadFromAssemblyPath(path) : null;
    };
}
