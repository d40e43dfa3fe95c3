// Phaul.Core and what it needs, in a load context of their own: another module's Google.Protobuf cannot clash with ours.

using System.Reflection;
using System.Runtime.Loader;

namespace Phaul.PowerShell.Loader;

/// <summary>Loads every assembly that lies in one directory, and nothing else.</summary>
internal sealed class DependencyLoadContext(string directory) : AssemblyLoadContext("Phaul")
{
    /// <summary>What the default context asks when it does not find an assembly: only Phaul.Core may be seen from outside.</summary>
    public Assembly? ResolveForModule(AssemblyLoadContext context, AssemblyName name) =>
        name.Name == "Phaul.Core" ? LoadFromAssemblyName(name) : null;

    /// <inheritdoc/>
    protected override Assembly? Load(AssemblyName assemblyName)
    {
        string path = Path.Combine(directory, assemblyName.Name + ".dll");
        return File.Exists(path) ? LoadFromAssemblyPath(path) : null;
    }
}
