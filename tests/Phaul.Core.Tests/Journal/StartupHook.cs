// Run by the runtime before Main where DOTNET_STARTUP_HOOKS names this assembly. The type's name and place are the runtime's demand.

using Phaul.Tests.Journal;

internal static class StartupHook
{
    public static void Initialize()
    {
        if (JournalWriterProcess.RunIfAskedAsync().GetAwaiter().GetResult())
            Environment.Exit(0);
    }
}
