// Error records for what was asked for by name and is not there.

using System.Management.Automation;

namespace Phaul.PowerShell.Errors;

/// <summary>Records of the category ObjectNotFound.</summary>
internal static class NotFoundRecord
{
    /// <summary>No such server in this session.</summary>
    public static ErrorRecord Server(int id) =>
        Record("ServerNotFound", $"There is no Phaul server {id} in this session.", "Get-PhaulServer lists those that there are.", id);

    /// <summary>No such migration in the state directory.</summary>
    public static ErrorRecord Migration(string id, string stateDirectory) =>
        Record(
            "MigrationNotFound", $"There is no migration {id} in {stateDirectory}.",
            "Get-PhaulMigration lists those that there are; -StateDirectory looks elsewhere.", id);

    /// <summary>No migration at all in the state directory.</summary>
    public static ErrorRecord AnyMigration(string stateDirectory) =>
        Record(
            "MigrationNotFound", $"There is no migration in {stateDirectory}.",
            "Migrate something first, or look elsewhere with -StateDirectory.", stateDirectory);

    private static ErrorRecord Record(string errorId, string message, string recommendedAction, object target) =>
        new(new ItemNotFoundException(message), errorId, ErrorCategory.ObjectNotFound, target)
        {
            ErrorDetails = new ErrorDetails(message) { RecommendedAction = recommendedAction },
        };
}
