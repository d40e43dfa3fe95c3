// The history as operators see it, and what is forgotten of it.

using Phaul.Journal;

namespace Phaul.Tests.Journal;

public sealed class MigrationHistoryTests : IDisposable
{
    private const ProgramState RunsThere = ProgramState.RunningOnDestination;

    private readonly TemporaryState _temporary = new();
    private readonly string _id = StateDirectory.NewMigrationId();
    private readonly MigrationHistory _history;

    public MigrationHistoryTests() => _history = new(State);

    private StateDirectory State => _temporary.State;

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task AnEndedMigrationIsSummedUpFromItsResult()
    {
        await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.EveryKind(_id));

        var summary = Assert.Single(await _history.ReadAsync());

        Assert.Equal((_id, MigrationSide.Source), (summary.MigrationId, summary.Side));
        Assert.Equal((MigrationState.Completed, ProgramState.RunningOnDestination), (summary.State, summary.ProgramState));
        Assert.Equal((MigrationMode.StopAndCopy, 4711, "counter"), (summary.Mode, summary.Pid, summary.ProcessName));
        Assert.Equal(("a", "b"), (summary.SourceHost, summary.DestinationHost));
        Assert.Equal((TimeSpan.FromSeconds(2.5), TimeSpan.FromMilliseconds(83)), (summary.Duration, summary.Downtime));
        Assert.Equal((2, 1000L), (summary.IterationCount, summary.BytesSent));
        Assert.Equal(["the clock of b is 3 s ahead"], summary.Warnings);
        Assert.False(summary.IsRunning);
        Assert.False(summary.NeedsResolution);
        Assert.Null(summary.Corruption);
    }

    [Fact]
    public async Task ARunningMigrationIsSummedUpFromItsRecords()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Destination);
        await journal.AppendAsync(Sample.Begun(_id, MigrationSide.Destination));
        await journal.AppendAsync(Sample.Entered(MigrationState.Receiving, MigrationSide.Destination));
        await journal.AppendAsync(Sample.Entered(MigrationState.Freezing, MigrationSide.Source));
        await journal.AppendAsync(Sample.Iteration(_id, 1));

        var summary = Assert.Single(await _history.ReadAsync());

        // The other side's states are told, too, but this side's own is its state.
        Assert.Equal((MigrationState.Receiving, ProgramState.RunningOnSource), (summary.State, summary.ProgramState));
        Assert.Equal(("b:7248", "höst a"), (summary.SourceHost, summary.DestinationHost));
        Assert.Equal((MigrationMode.Auto, 1, 23_085_056L), (summary.Mode, summary.IterationCount, summary.BytesSent));
        Assert.True(summary.IsRunning);
        Assert.False(summary.NeedsResolution);
        Assert.True(summary.Duration >= TimeSpan.Zero);
    }

    [Theory]
    [InlineData(MigrationSide.Source, MigrationState.PreCopying, ProgramState.RunningOnSource, ProgramState.RunningOnSource, true)]
    [InlineData(MigrationSide.Source, MigrationState.Transferring, ProgramState.FrozenOnSource, ProgramState.Unknown, true)]
    [InlineData(MigrationSide.Source, MigrationState.Committing, ProgramState.FrozenOnSource, ProgramState.Unknown, true)]
    [InlineData(MigrationSide.Source, MigrationState.RolledBack, ProgramState.RunningOnSource, ProgramState.RunningOnSource, false)]
    [InlineData(MigrationSide.Source, MigrationState.InDoubt, ProgramState.Unknown, ProgramState.Unknown, true)]
    [InlineData(MigrationSide.Destination, MigrationState.Prepared, ProgramState.FrozenOnSource, ProgramState.Unknown, true)]
    [InlineData(MigrationSide.Destination, MigrationState.Committing, ProgramState.HeldOnDestination, ProgramState.Unknown, true)]
    [InlineData(MigrationSide.Destination, MigrationState.Discarded, ProgramState.RunningOnSource, ProgramState.RunningOnSource, false)]
    [InlineData(MigrationSide.Source, MigrationState.Completed, RunsThere, RunsThere, false)]
    [InlineData(MigrationSide.Destination, MigrationState.Running, RunsThere, RunsThere, false)]
    public async Task ADeadWriterLeavesWhatHasToBeSettled(
        MigrationSide side, MigrationState state, ProgramState whileAlive, ProgramState whenDead, bool needsResolution)
    {
        var journal = await MigrationJournal.CreateAsync(State, _id, side);
        await journal.AppendAsync(Sample.Begun(_id, side));
        await journal.AppendAsync(Sample.Entered(state, side));

        var alive = Assert.Single(await _history.ReadAsync(_id));
        await journal.DisposeAsync();
        var dead = Assert.Single(await _history.ReadAsync(_id));

        Assert.Equal((state, whileAlive, true), (alive.State, alive.ProgramState, alive.IsRunning));
        Assert.Equal(state == MigrationState.InDoubt, alive.NeedsResolution);
        Assert.Equal((state, whenDead, false), (dead.State, dead.ProgramState, dead.IsRunning));
        Assert.Equal(needsResolution, dead.NeedsResolution);
    }

    [Fact]
    public async Task OnceTheTreeIsGoneTheProgramIsNoLongerOnTheSource()
    {
        await Sample.WriteAsync(
            State,
            _id,
            MigrationSide.Source,
            Sample.Begun(_id),
            Sample.Entered(MigrationState.Committing),
            new CommitIntent(),
            new TreeGone());
        var summary = Assert.Single(await _history.ReadAsync());
        Assert.Equal(ProgramState.HeldOnDestination, summary.ProgramState);
        Assert.True(summary.NeedsResolution);
    }

    [Fact]
    public async Task AResolutionReplacesTheEndThatWasInDoubt()
    {
        await Sample.WriteAsync(
            State, _id, MigrationSide.Source, Sample.Begun(_id), Sample.Finished(_id, MigrationState.InDoubt));
        Assert.True(Assert.Single(await _history.ReadAsync()).NeedsResolution);

        await using (var journal = await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source))
        {
            await journal.AppendAsync(new Resolution("the tree lives", "phaul resolve"));
            await journal.AppendAsync(Sample.Entered(MigrationState.RolledBack));
        }

        var summary = Assert.Single(await _history.ReadAsync());
        Assert.Equal((MigrationState.RolledBack, ProgramState.RunningOnSource), (summary.State, summary.ProgramState));
        Assert.False(summary.NeedsResolution);
    }

    [Fact]
    public async Task SeveralMigrationsAtOnceKeepApartAndInOrder()
    {
        string[] ids = ["20261121T224501Z-7f3a9c01", "20261121T224502Z-7f3a9c01", "20261121T224503Z-7f3a9c01"];
        await Task.WhenAll(ids.SelectMany(id => Enum.GetValues<MigrationSide>().Select(async side =>
        {
            await using var journal = await MigrationJournal.CreateAsync(State, id, side);
            await journal.AppendAsync(Sample.Begun(id, side));
            for (var n = 1; n <= 30; n++)
                await journal.AppendAsync(Sample.Iteration(id, n), durable: n % 10 == 0);
            var end = side == MigrationSide.Source ? MigrationState.Completed : MigrationState.Running;
            await journal.AppendAsync(Sample.Finished(id, end, side));
        })));

        var summaries = await _history.ReadAsync();

        Assert.Equal(
            ids.Reverse().SelectMany(id => new[] { (id, MigrationSide.Source), (id, MigrationSide.Destination) }),
            summaries.Select(s => (s.MigrationId, s.Side)));
        Assert.All(summaries, s => Assert.Equal((30, null), (s.IterationCount, s.Corruption)));
        foreach (var id in ids)
            Assert.All(await _history.IterationsAsync(id), i => Assert.Equal(id, i.MigrationId));
    }

    [Fact]
    public async Task CorruptionIsToldAndHidesNoOtherMigration()
    {
        const string Rotten = "20261121T224501Z-7f3a9c01";
        const string Misplaced = "20261121T224502Z-7f3a9c01";
        const string Unreadable = "20261121T224503Z-7f3a9c01";
        var path = await Sample.WriteAsync(State, Rotten, MigrationSide.Source, Sample.EveryKind(Rotten));
        var bytes = await File.ReadAllBytesAsync(path);
        // The last but one line: what comes before says Committing at most, and the end cannot be believed.
        bytes[Array.LastIndexOf(bytes, (byte)'\n', bytes.Length - 2) - 30] ^= 1;
        await File.WriteAllBytesAsync(path, bytes);
        await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.EveryKind(_id));
        Directory.CreateDirectory(State.MigrationPath(Misplaced));
        File.Copy(State.JournalPath(_id, MigrationSide.Source), State.JournalPath(Misplaced, MigrationSide.Source));
        Directory.CreateDirectory(State.MigrationPath(Unreadable));
        File.CreateSymbolicLink(State.JournalPath(Unreadable, MigrationSide.Source), "/proc/self/mem");

        var summaries = (await _history.ReadAsync()).ToDictionary(s => s.MigrationId);

        Assert.Null(summaries[_id].Corruption);
        Assert.False(summaries[_id].NeedsResolution);
        Assert.StartsWith($"line {Sample.EveryKind(Rotten).Length - 1}:", summaries[Rotten].Corruption, StringComparison.Ordinal);
        Assert.Contains(_id, summaries[Misplaced].Corruption, StringComparison.Ordinal);
        Assert.NotNull(summaries[Unreadable].Corruption);
        foreach (var id in new[] { Rotten, Misplaced, Unreadable })
            Assert.True(summaries[id].NeedsResolution, id);
        await Assert.ThrowsAsync<PhaulException>(() => _history.IterationsAsync(Rotten));
        Assert.Equal([_id], await _history.PruneAsync(TimeSpan.Zero));
    }

    [Fact]
    public async Task IterationsComeFromTheSideThatIsThere()
    {
        await Sample.WriteAsync(
            State,
            _id,
            MigrationSide.Destination,
            Sample.Begun(_id, MigrationSide.Destination),
            Sample.Iteration(_id, 1),
            Sample.Iteration(_id, 2));
        Assert.Equal([1, 2], (await _history.IterationsAsync(_id)).Select(i => i.Index));
        await Assert.ThrowsAsync<PhaulException>(() => _history.IterationsAsync(_id, MigrationSide.Source));
        await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.Begun(_id), Sample.Iteration(_id, 1));
        Assert.Equal([1], (await _history.IterationsAsync(_id)).Select(i => i.Index));
        Assert.Equal([1, 2], (await _history.IterationsAsync(_id, MigrationSide.Destination)).Select(i => i.Index));
        var followed = new List<PhaulIteration>();
        await foreach (var iteration in _history.FollowIterationsAsync(_id, MigrationSide.Destination))
            followed.Add(iteration);
        Assert.Equal(await _history.IterationsAsync(_id, MigrationSide.Destination), followed);
    }

    [Fact]
    public async Task OnlyWhatEndedLongAgoIsForgotten()
    {
        var old = DateTimeOffset.UtcNow.AddDays(-30);
        async Task<string> Make(int n, DateTimeOffset time, params Func<string, JournalRecord>[] records)
        {
            var id = $"20260101T0000{n:00}Z-00000000";
            await Sample.WriteAsync(State, id, MigrationSide.Source, records.Select(make => make(id) with { Time = time }).ToArray());
            return id;
        }

        JournalRecord Begin(string id) => Sample.Begun(id);
        var done = await Make(1, old, Begin, id => Sample.Finished(id, MigrationState.Completed));
        var rolledBack = await Make(2, old, Begin, _ => Sample.Entered(MigrationState.RolledBack));
        var recent = await Make(3, DateTimeOffset.UtcNow, Begin, id => Sample.Finished(id, MigrationState.Completed));
        var inDoubt = await Make(4, old, Begin, id => Sample.Finished(id, MigrationState.InDoubt));
        var crashed = await Make(5, old, Begin, _ => Sample.Entered(MigrationState.Transferring), _ => new CommitIntent());
        // One side has ended, the other is being written: both stay.
        var halfway = await Make(6, old, Begin, id => Sample.Finished(id, MigrationState.Completed));
        await using var journal = await MigrationJournal.CreateAsync(State, halfway, MigrationSide.Destination);
        await journal.AppendAsync(Sample.Begun(halfway, MigrationSide.Destination) with { Time = old });
        await journal.AppendAsync(Sample.Entered(MigrationState.Running, MigrationSide.Destination) with { Time = old });
        var tomorrow = await Make(7, DateTimeOffset.UtcNow.AddDays(1), Begin, id => Sample.Finished(id, MigrationState.Completed));
        var neverBegan = "20260101T000008Z-00000000";
        Directory.CreateDirectory(State.MigrationPath(neverBegan));
        var justBegins = "20260101T000009Z-00000000";
        Directory.CreateDirectory(State.MigrationPath(justBegins));
        Directory.SetLastWriteTimeUtc(State.MigrationPath(neverBegan), old.UtcDateTime);

        Assert.Equal([neverBegan, rolledBack, done], await _history.PruneAsync(TimeSpan.FromDays(7)));
        Assert.Equal([justBegins, tomorrow, halfway, crashed, inDoubt, recent], State.Migrations());
        Assert.Equal([recent], await _history.PruneAsync(TimeSpan.Zero));
    }
}
