// How records become JSON: camelCase members, enums as their names, durations in milliseconds in members that end in Ms.

using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.Json.Serialization.Metadata;

namespace Phaul.Journal;

[JsonSourceGenerationOptions(
    GenerationMode = JsonSourceGenerationMode.Metadata,
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    UseStringEnumConverter = true,
    Converters = [typeof(MillisecondsConverter)])]
[JsonSerializable(typeof(Begun))]
[JsonSerializable(typeof(Reopened))]
[JsonSerializable(typeof(TreeIdentity))]
[JsonSerializable(typeof(ImagesPlace))]
[JsonSerializable(typeof(StateEntered))]
[JsonSerializable(typeof(IterationFinished))]
[JsonSerializable(typeof(Warning))]
[JsonSerializable(typeof(Prepared))]
[JsonSerializable(typeof(Resuming))]
[JsonSerializable(typeof(NeverRan))]
[JsonSerializable(typeof(PeerMet))]
[JsonSerializable(typeof(PeerUntold))]
[JsonSerializable(typeof(PeerTold))]
[JsonSerializable(typeof(CommitIntent))]
[JsonSerializable(typeof(EngineOfOwn))]
[JsonSerializable(typeof(TreeGone))]
[JsonSerializable(typeof(MemoryServed))]
[JsonSerializable(typeof(MemoryLost))]
[JsonSerializable(typeof(MemoryComplete))]
[JsonSerializable(typeof(Resolution))]
[JsonSerializable(typeof(Finished))]
[JsonSerializable(typeof(PhaulIteration))]
[JsonSerializable(typeof(PhaulMigrationResult))]
[JsonSerializable(typeof(MigrationResolution))]
internal sealed partial class JournalJson : JsonSerializerContext
{
    /// <summary>Makes the options that journals are written and read with.</summary>
    public static JsonSerializerOptions MakeOptions()
    {
        var options = new JsonSerializerOptions(Default.Options)
        {
            // People read journals, browsers do not: a plus sign may stay one.
            Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            TypeInfoResolver = Default.WithAddedModifier(NameTheUnit),
        };
        options.MakeReadOnly();
        return options;
    }

    private static void NameTheUnit(JsonTypeInfo type)
    {
        foreach (var member in type.Properties)
        {
            if (member.PropertyType == typeof(TimeSpan) || member.PropertyType == typeof(TimeSpan?))
                member.Name += "Ms";
        }
    }
}

// Milliseconds as a double hold every tick (100 ns) exactly for any duration below 28 years.
internal sealed class MillisecondsConverter : JsonConverter<TimeSpan>
{
    public override TimeSpan Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
        => new(checked((long)Math.Round(reader.GetDouble() * TimeSpan.TicksPerMillisecond)));

    public override void Write(Utf8JsonWriter writer, TimeSpan value, JsonSerializerOptions options)
        => writer.WriteNumberValue((double)value.Ticks / TimeSpan.TicksPerMillisecond);
}
