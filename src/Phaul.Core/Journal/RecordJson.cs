// Iterations and results as JSON outside a journal: across the wire they look as they do in the journals of both hosts.

using System.Text.Json;
using Phaul.Journal;

namespace Phaul;

/// <summary>Writes and reads records that one host makes and both keep.</summary>
internal static class RecordJson
{
    private static readonly JsonSerializerOptions Options = JournalJson.MakeOptions();

    public static string Write(PhaulIteration iteration) => JsonSerializer.Serialize(iteration, Options);

    public static string Write(PhaulMigrationResult result) => JsonSerializer.Serialize(result, Options);

    public static string Write(MigrationResolution resolution) => JsonSerializer.Serialize(resolution, Options);

    /// <exception cref="PhaulException">The server sent something else, or a record of another migration.</exception>
    public static MigrationResolution ReadResolution(string json, string migrationId) =>
        Read<MigrationResolution>(json, resolution => resolution.MigrationId, migrationId);

    /// <exception cref="PhaulException">The peer sent something else, or a record of another migration.</exception>
    public static PhaulIteration ReadIteration(string json, string migrationId) => Read<PhaulIteration>(json, iteration => iteration.MigrationId, migrationId);

    /// <exception cref="PhaulException">The peer sent something else, or a record of another migration.</exception>
    public static PhaulMigrationResult ReadResult(string json, string migrationId) => Read<PhaulMigrationResult>(json, result => result.MigrationId, migrationId);

    private static T Read<T>(string json, Func<T, string> idOf, string migrationId)
        where T : class
    {
        try
        {
            if (JsonSerializer.Deserialize<T>(json, Options) is { } record && idOf(record) == migrationId)
                return record;
        }
        catch (JsonException exception)
        {
            throw new PhaulException(PhaulErrorId.ProtocolError, $"The peer sent a record that cannot be read: {exception.Message}", exception);
        }

        throw new PhaulException(PhaulErrorId.ProtocolError, "The peer sent a record of another migration");
    }
}
