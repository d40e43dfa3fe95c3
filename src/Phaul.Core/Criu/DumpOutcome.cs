// What a dump came to.
namespace Phaul.Criu;

/// <summary>A dump that succeeded.</summary>
/// <param name="Restored">True in a process that dumped itself and reads this after its restore.</param>
public sealed record DumpOutcome(bool Restored);
