// Script blocks in which an error is an error: for what must not go on after one.

using System.Collections.ObjectModel;
using System.Management.Automation;

namespace Phaul.PowerShell.Engines;

/// <summary>Invokes script blocks with $ErrorActionPreference = 'Stop', for native commands as well.</summary>
internal static class ScriptErrors
{
    /// <summary>Invokes it; any error ends it.</summary>
    public static Collection<PSObject> Stop(ScriptBlock script, params object[] arguments) => script.InvokeWithContext(
        null,
        [
            new PSVariable("ErrorActionPreference", ActionPreference.Stop),
            new PSVariable("PSNativeCommandUseErrorActionPreference", true),
        ],
        arguments);

    /// <summary>What a script threw, without PowerShell's wrapping where it was an exception of the engine's.</summary>
    public static Exception CauseOf(Exception failure) => failure switch
    {
        RuntimeException { InnerException: { } inner } when inner is PhaulException or Phaul.Criu.CriuException or OperationCanceledException => inner,
        _ => failure,
    };
}
