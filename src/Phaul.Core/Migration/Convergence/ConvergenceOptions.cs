// When pre-copy stops iterating.

namespace Phaul;

/// <summary>The limits of the convergence policy. The defaults are the rules of P.Haul.</summary>
public sealed record ConvergenceOptions
{
    /// <summary>At most so many pre-dumps. 1 to 1000, default 8.</summary>
    public int MaxIterations { get; init; } = 8;

    /// <summary>Hand over once an iteration writes fewer pages than this. Default 64.</summary>
    public long MinPages { get; init; } = 64;

    /// <summary>Hand over once an iteration writes at least so many pages more than the one before. Default 32.</summary>
    public long MaxGrowth { get; init; } = 32;

    /// <summary>Hand over as soon as the predicted downtime fits, or when another round would not make it better. Null: not predicted.</summary>
    public TimeSpan? MaxDowntime { get; init; }
}
