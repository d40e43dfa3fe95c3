// A hundred requests, and kills, leave no descriptor and no child behind.
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Tests.Criu;

[Collection(nameof(RealCriuCollection))]
public sealed class CriuLeakTests(RealCriu real) : IDisposable
{
    private readonly FakeCriu _fake = new();

    public void Dispose() => _fake.Dispose();

    [SkippableFact]
    public async Task A_hundred_requests_to_the_real_CRIU()
    {
        var path = real.Require();
        await AssertNothingLeaksAsync(async () =>
        {
            for (var client = 0; client < 20; client++)
            {
                await using var criu = new CriuClient(new CriuClientOptions { CriuPath = path });
                await criu.OpenAsync();
                await criu.GetVersionAsync();
                await criu.CheckFeaturesAsync();
                await Assert.ThrowsAsync<CriuException>(() => criu.WaitPidAsync(1));
                await criu.GetVersionAsync();
            }
        });
    }

    [Fact]
    public async Task A_hundred_requests_to_one_that_dies_now_and_then()
    {
        // Its pid decides: about half of them die before they answer.
        _fake.Receive().Do("[ $(($$ % 2)) = 0 ] && kill -KILL $$").Send(FakeCriu.Version).Build();
        await AssertNothingLeaksAsync(async () =>
        {
            await using var criu = new CriuClient(new CriuClientOptions { CriuPath = _fake.Path });
            for (var request = 0; request < 100; request++)
            {
                try
                {
                    await criu.GetVersionAsync();
                }
                catch (CriuException exception)
                {
                    Assert.Equal(CriuFailure.Died, exception.Kind);
                }
            }
        });
    }

    [Fact]
    public async Task Ones_that_hang_and_are_killed()
    {
        _fake.Receive().Do("exec sleep 600").Build();
        await AssertNothingLeaksAsync(async () =>
        {
            for (var client = 0; client < 10; client++)
            {
                await using var criu = new CriuClient(new CriuClientOptions
                {
                    CriuPath = _fake.Path,
                    RequestTimeout = TimeSpan.FromMilliseconds(50),
                    EndTimeout = TimeSpan.FromMilliseconds(50),
                });
                await Assert.ThrowsAsync<CriuException>(() => criu.GetVersionAsync());
                await Assert.ThrowsAsync<CriuException>(() => criu.DumpAsync(new CriuOpts { ImagesDir = "/tmp" }));
            }
        });
    }

    [Fact]
    public async Task Ones_that_are_not_there()
    {
        await AssertNothingLeaksAsync(async () =>
        {
            for (var client = 0; client < 100; client++)
            {
                await using var criu = new CriuClient(new CriuClientOptions { CriuPath = "/nonexistent/criu" });
                await Assert.ThrowsAsync<CriuException>(() => criu.GetVersionAsync());
            }
        });
    }

    private static async Task AssertNothingLeaksAsync(Func<Task> work)
    {
        // What is made once for the process (epoll, thread pool, the files of assemblies that are loaded late) is made before the count.
        await work();
        var (descriptors, children) = (Descriptors(), Processes.ChildrenOf(Environment.ProcessId));
        await work();
        Assert.Equal(children, Processes.ChildrenOf(Environment.ProcessId));
        // The test runner talks to its host meanwhile, so a few may come and go; a leak of this work would be of tens.
        var failsafe = DateTime.UtcNow.AddSeconds(20);
        while (Descriptors() > descriptors && DateTime.UtcNow < failsafe) await Task.Delay(20);
        Assert.True(
            Descriptors() <= descriptors, $"{descriptors} descriptors before, {Descriptors()} after, the last of them {string.Join(", ", Newest())}");
    }

    private static IEnumerable<string?> Newest() => Directory.GetFileSystemEntries("/proc/self/fd")
        .OrderBy(path => int.Parse(Path.GetFileName(path), System.Globalization.CultureInfo.InvariantCulture)).TakeLast(6)
        .Select(path => $"{Path.GetFileName(path)} {new FileInfo(path).LinkTarget}");

    private static int Descriptors() => Directory.GetFileSystemEntries("/proc/self/fd").Length;
}
