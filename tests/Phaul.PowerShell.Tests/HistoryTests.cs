// Get-PhaulMigration and Get-PhaulIteration over journals that the engine writes, also while it writes them.

using Phaul.Journal;

namespace Phaul.PowerShell.Tests;

public sealed class HistoryTests : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly ModuleSession _session = new();
    private readonly StateDirectory _state;
    private readonly string _id = StateDirectory.NewMigrationId();

    public HistoryTests() => _state = new StateDirectory(_session.Directory);

    public void Dispose() => _session.Dispose();

    [Fact]
    public async Task A_running_migration_is_followed_to_its_end()
    {
        await using var journal = await BeginAsync();
        await journal.AppendAsync(new IterationFinished(Iteration(1)));

        using var follower = _session.Command($"Get-PhaulIteration -Last -Wait -StateDirectory {_session.Directory}");
        using var output = new PSDataCollection<PSObject>();
        using var emitted = new SemaphoreSlim(0);
        output.DataAdded += (_, _) => emitted.Release();
        Task following = follower.InvokeAsync<PSObject, PSObject>(null, output);
        Assert.True(await emitted.WaitAsync(Failsafe), "the iteration that was there has not come");
        Assert.False(following.IsCompleted);

        await journal.AppendAsync(new IterationFinished(Iteration(2)));
        Assert.True(await emitted.WaitAsync(Failsafe), "the iteration that was appended has not come");
        await journal.AppendAsync(new Finished(Result()));
        await following.WaitAsync(Failsafe);

        Assert.Equal([1, 2], output.Select(iteration => (int)iteration.Properties["Index"].Value));
        Assert.Equal("Phaul.PhaulIteration", output[0].TypeNames[0]);
    }

    [Fact]
    public async Task Following_stops_when_the_pipeline_is_stopped()
    {
        await using var journal = await BeginAsync();
        await journal.AppendAsync(new IterationFinished(Iteration(1)));
        using var follower = _session.Command($"Get-PhaulIteration {_id} -Wait -StateDirectory {_session.Directory}");
        using var output = new PSDataCollection<PSObject>();
        using var emitted = new SemaphoreSlim(0);
        output.DataAdded += (_, _) => emitted.Release();
        Task following = follower.InvokeAsync<PSObject, PSObject>(null, output);
        Assert.True(await emitted.WaitAsync(Failsafe));
        await follower.StopAsync(null, null).WaitAsync(Failsafe);
        await Assert.ThrowsAnyAsync<RuntimeException>(() => following.WaitAsync(Failsafe));
    }

    [Fact]
    public async Task The_history_filters_and_its_objects_lead_to_their_iterations()
    {
        await using (var journal = await BeginAsync())
        {
            await journal.AppendAsync(new IterationFinished(Iteration(1)));
            await journal.AppendAsync(new Finished(Result()));
        }

        string at = $"-StateDirectory {_session.Directory}";
        Assert.Single(_session.Run($"Get-PhaulMigration {at} -State Completed -Side Source"));
        Assert.Empty(_session.Run($"Get-PhaulMigration {at} -State RolledBack"));
        Assert.Empty(_session.Run($"Get-PhaulMigration {at} -Side Destination"));
        Assert.Empty(_session.Run($"Get-PhaulMigration {at} -Unresolved"));
        Assert.Single(_session.Run($"Get-PhaulMigration {_id[..8]}* {at} | Get-PhaulIteration {at}"));
        var completed = _session.Run(
            $"(TabExpansion2 'Get-PhaulIteration -StateDirectory {_session.Directory} -MigrationId ').CompletionMatches.CompletionText");
        Assert.Equal(_id, completed.Single().ToString());
    }

    [Theory]
    [InlineData("Format-Table", "64 MiB", "1.5 ms", "HandOver")]
    [InlineData("Format-List", "64 MiB", "1.5 ms", "PagesScanned")]
    public async Task Tables_and_lists_have_units_and_properties_are_numbers(string format, params string[] expected)
    {
        await using (var journal = await BeginAsync())
        {
            await journal.AppendAsync(new IterationFinished(Iteration(1)));
        }

        string get = $"Get-PhaulIteration {_id} -StateDirectory {_session.Directory}";
        string shown = _session.Run($"{get} | {format} | Out-String -Width 140").Single().ToString();
        Assert.All(expected, text => Assert.Contains(text, shown));
        var iteration = _session.Run(get).Single();
        Assert.IsType<long>(iteration.Properties["BytesSent"].Value);
        Assert.IsType<TimeSpan>(iteration.Properties["FrozenTime"].Value);

        // As it comes out of a job or another machine
        string serializer = $"[{typeof(PSSerializer).FullName}]";
        string travelled = $"{serializer}::Deserialize({serializer}::Serialize(({get})))";
        string copied = _session.Run($"{travelled} | {format} | Out-String -Width 140").Single().ToString();
        Assert.Equal(shown, copied);
    }

    private async Task<MigrationJournal> BeginAsync()
    {
        var journal = await MigrationJournal.CreateAsync(_state, _id, MigrationSide.Source);
        await journal.AppendAsync(new Begun(_id, MigrationSide.Source, "a", MigrationMode.Auto, 1234, "counter", "b", null));
        return journal;
    }

    private PhaulIteration Iteration(int index) => new()
    {
        MigrationId = _id,
        Index = index,
        Kind = IterationKind.PreDump,
        StartTime = DateTimeOffset.UnixEpoch,
        Duration = TimeSpan.FromSeconds(1),
        FrozenTime = TimeSpan.FromMilliseconds(1.5),
        PagesScanned = 20000,
        PagesSkipped = 0,
        PagesWritten = 16384,
        BytesSent = 64 << 20,
        BytesPerSecond = 64 << 20,
        Decision = IterationDecision.HandOver,
        Reason = "little is left",
    };

    private PhaulMigrationResult Result() => new()
    {
        MigrationId = _id,
        Side = MigrationSide.Source,
        Mode = MigrationMode.PreCopy,
        State = MigrationState.Completed,
        ProgramState = ProgramState.RunningOnDestination,
        SourceHost = "a",
        DestinationHost = "b",
        Pid = 1234,
        StartTime = DateTimeOffset.UnixEpoch,
        Duration = TimeSpan.FromSeconds(2),
    };
}
