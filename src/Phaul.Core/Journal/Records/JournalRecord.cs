// What every line of a journal has in common.

using System.Text.Json;
using System.Text.Json.Serialization;

namespace Phaul.Journal;

/// <summary>One line of a journal. Records are facts: they are appended, and never changed.</summary>
public abstract record JournalRecord
{
    /// <summary>Its number in the journal, from 1 without a gap; 0 before it was appended.</summary>
    [JsonIgnore]
    public long Sequence { get; init; }

    /// <summary>When it was appended, by this host's clock. Sequence, not time, is the order: a clock may jump.</summary>
    [JsonIgnore]
    public DateTimeOffset Time { get; init; }
}

/// <summary>A record of a kind, or in a version of the format, that this version of Phaul does not know. It is kept, not judged.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Version">The version of the format that it is written in.</param>
/// <param name="Content">The whole line.</param>
public sealed record Unknown(string Kind, int Version, JsonElement Content) : JournalRecord;
