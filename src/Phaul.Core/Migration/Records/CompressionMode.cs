// Whether memory is compressed on its way.

namespace Phaul;

/// <summary>When memory is compressed on its way to the destination.</summary>
public enum CompressionMode
{
    /// <summary>Where it then arrives sooner: the link, the processor and the memory itself are measured all the time.</summary>
    Auto,

    /// <summary>Whatever becomes shorter.</summary>
    On,

    /// <summary>Never.</summary>
    Off,
}
