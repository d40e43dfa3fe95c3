// What is migrated, as errors, jobs and prompts name it.

namespace Phaul.PowerShell.Migrating;

/// <summary>
/// The root process of a tree and where it is to go. The target of error records: <c>$Error[0].TargetObject</c> can be piped
/// into Invoke-PhaulMigration again.
/// </summary>
/// <param name="Id">The root pid.</param>
/// <param name="ProcessName">Its command name; null where it is not known.</param>
/// <param name="ComputerName">The destination's name or address; null for a UNIX socket.</param>
/// <param name="Port">The TCP port there.</param>
/// <param name="Destination">The destination with its port, or the path of the UNIX socket.</param>
public sealed record MigrationTarget(int Id, string? ProcessName, string? ComputerName, int Port, string Destination)
{
    /// <summary><c>counter (1234)</c>, or <c>process 1234</c> where the name is not known.</summary>
    public override string ToString() => ProcessName is null ? $"process {Id}" : $"{ProcessName} ({Id})";

    /// <summary>The target of a request.</summary>
    internal static MigrationTarget Of(MigrationRequest request) =>
        new(request.Pid, NameOf(request.Pid), request.Destination.Host, request.Destination.Port, request.Destination.ToString());

    private static string? NameOf(int id)
    {
        try
        {
            return File.ReadAllText($"/proc/{id}/comm").TrimEnd('\n');
        }
        catch (Exception absent) when (absent is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
