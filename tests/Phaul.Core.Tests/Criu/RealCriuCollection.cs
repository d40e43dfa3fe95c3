// Tests that count descriptors and children, or give pids back to be used again, run alone.
namespace Phaul.Tests.Criu;

[CollectionDefinition(nameof(RealCriuCollection), DisableParallelization = true)]
public sealed class RealCriuCollection : ICollectionFixture<RealCriu>;
