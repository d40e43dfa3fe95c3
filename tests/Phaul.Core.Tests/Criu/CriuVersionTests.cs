// Versions compare by number and print as CRIU prints them.
using Phaul.Criu;

namespace Phaul.Tests.Criu;

public sealed class CriuVersionTests
{
    [Fact]
    public void They_are_ordered()
    {
        CriuVersion[] ordered = [new(3, 17, 1), new(4, 1), new(4, 1, 1), new(4, 2, 0, "v4.2-7-gabc"), new(4, 2, 1), new(4, 10), new(5, 0)];
        Assert.Equal(ordered, ordered.Reverse().Order());
        Assert.True(ordered[0] < ordered[1] && ordered[5] > ordered[4] && ordered[1] <= ordered[2] && ordered[2] >= ordered[1]);
        Assert.True(new CriuVersion(4, 2, 1).IsAtLeast(4, 2));
        Assert.False(new CriuVersion(4, 1, 9).IsAtLeast(4, 2));
    }

    [Fact]
    public void They_print_without_a_sublevel_of_nothing()
    {
        Assert.Equal("4.2.1", new CriuVersion(4, 2, 1).ToString());
        Assert.Equal("4.2", new CriuVersion(4, 2, 0, "v4.2-7-gabc").ToString());
    }
}
