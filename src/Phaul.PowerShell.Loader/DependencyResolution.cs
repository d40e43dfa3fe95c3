// Lets the cmdlets' assembly find Phaul.Core for as long as the module is imported.
// An assembly of its own because PowerShell looks at all types of a module's assembly before it runs its initializer:
// a parameter of an enum type of Phaul.Core would already have to be loaded then.

using System.Management.Automation;
using System.Runtime.Loader;

namespace Phaul.PowerShell.Loader;

/// <summary>Called by PowerShell when the module is imported and when it is removed.</summary>
public sealed class DependencyResolution : IModuleAssemblyInitializer, IModuleAssemblyCleanup
{
    // One context for the process: the module may be imported by several runspaces, which then share its types.
    private static readonly DependencyLoadContext Dependencies =
        new(Path.Combine(Path.GetDirectoryName(typeof(DependencyResolution).Assembly.Location)!, "lib"));

    /// <inheritdoc/>
    public void OnImport() => AssemblyLoadContext.Default.Resolving += Dependencies.ResolveForModule;

    /// <inheritdoc/>
    public void OnRemove(PSModuleInfo psModuleInfo) => AssemblyLoadContext.Default.Resolving -= Dependencies.ResolveForModule;
}
