// What a source refuses before it has reached anybody.

namespace Phaul.Tests.Migration;

public sealed class SourceMigrationTests
{
    [Fact]
    public async Task WhoHasGotThePidOfAnotherProgramIsNotMovedInItsPlace()
    {
        using var process = System.Diagnostics.Process.Start("sleep", "600");
        try
        {
            var began = MigrationRequest.StartTimeOf(process.Id);
            Assert.NotNull(began);
            Assert.Equal(PhaulErrorId.ConnectionFailed, await RefusalAsync(began));
            Assert.Equal(PhaulErrorId.ProcessNotFound, await RefusalAsync(began - 1));
        }
        finally
        {
            process.Kill();
        }

        async Task<PhaulErrorId> RefusalAsync(ulong? began)
        {
            var migration = new SourceMigration(new MigrationRequest
            {
                Pid = process.Id,
                ProcessStartTime = began,
                Destination = new MigrationEndpoint { UnixSocketPath = "/nobody/listens" },
            });
            return (await Assert.ThrowsAsync<PhaulException>(() => migration.CheckAsync())).ErrorId;
        }
    }

    [Theory]
    [InlineData(MigrationMode.Auto)]
    [InlineData(MigrationMode.PreCopy)]
    [InlineData(MigrationMode.Hybrid)]
    public async Task MemoryIsNotGatheredWhereItWouldBeSentAgainAsAWhole(MigrationMode mode)
    {
        var migration = new SourceMigration(new MigrationRequest
        {
            Pid = Environment.ProcessId,
            Mode = mode,
            CollapseMemory = true,
            Destination = new MigrationEndpoint { UnixSocketPath = "/nobody/listens" },
        });
        var refusal = await Assert.ThrowsAsync<PhaulException>(() => migration.CheckAsync());
        Assert.Equal(PhaulErrorId.InvalidRequest, refusal.ErrorId);
        Assert.Contains($"not for {mode}", refusal.Message);
    }
}
