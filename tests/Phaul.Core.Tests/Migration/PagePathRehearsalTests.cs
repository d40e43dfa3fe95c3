// What goes wrong in a rehearsal is not told to anybody, so it is seen here that nothing does.

using Phaul.Memory;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Migration;

public sealed class PagePathRehearsalTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task ItGoesAllTheWay()
    {
        await PagePathRehearsal.RunAsync(new DirectoryInfo(_temporary.Path), default).Within();
        Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary.Path));
    }
}
