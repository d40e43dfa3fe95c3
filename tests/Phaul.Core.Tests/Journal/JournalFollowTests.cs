// Following a journal that somebody else writes, in this process and in another one that is killed.

using System.Diagnostics;
using Phaul.Journal;

namespace Phaul.Tests.Journal;

public sealed class JournalFollowTests : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly TemporaryState _temporary = new();
    private readonly string _id = StateDirectory.NewMigrationId();
    private readonly CancellationTokenSource _failsafe = new(Failsafe);

    private StateDirectory State => _temporary.State;

    public void Dispose()
    {
        _failsafe.Dispose();
        _temporary.Dispose();
    }

    [Fact]
    public async Task TwoFollowersSeeEveryRecordInOrderAndEndWithTheMigration()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        async Task<List<JournalRecord>> Follow()
        {
            var records = new List<JournalRecord>();
            await foreach (var record in JournalReader.FollowAsync(journal.Path, _failsafe.Token))
                records.Add(record);
            return records;
        }

        // One from before the first record on, one from the middle.
        var early = Follow();
        await journal.AppendAsync(Sample.Begun(_id));
        Task<List<JournalRecord>>? late = null;
        for (var n = 0; n < 500; n++)
        {
            await journal.AppendAsync(new Warning($"{n} {new string('x', n * 7 % 9000)}"));
            late ??= n == 250 ? Follow() : null;
        }

        await journal.AppendAsync(Sample.Finished(_id, MigrationState.Completed));

        // The writer still holds its lock: it is Finished that ends them.
        foreach (var records in new[] { await early, await late! })
        {
            Assert.Equal(502, records.Count);
            Assert.Equal(Enumerable.Range(1, 502).Select(n => (long)n), records.Select(r => r.Sequence));
            Assert.IsType<Finished>(records[^1]);
        }
    }

    [Fact]
    public async Task ARecordIsYieldedWhenItIsWrittenNotLater()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        await using var followed = JournalReader.FollowAsync(journal.Path, _failsafe.Token).GetAsyncEnumerator();
        Assert.True(await followed.MoveNextAsync());
        for (var n = 0; n < 20; n++)
        {
            var next = followed.MoveNextAsync();
            Assert.False(next.IsCompleted);
            await journal.AppendAsync(new Warning($"{n}"));
            Assert.True(await next);
            Assert.Equal($"{n}", Assert.IsType<Warning>(followed.Current).Text);
        }
    }

    [Fact]
    public async Task AFollowerCanBeCancelledWhileItWaits()
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_failsafe.Token);
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        await using var followed = JournalReader.FollowAsync(journal.Path, stop.Token).GetAsyncEnumerator();
        Assert.True(await followed.MoveNextAsync());
        var next = followed.MoveNextAsync().AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => next);
        Assert.False(_failsafe.IsCancellationRequested);
    }

    [Fact]
    public async Task WhatAnEndedMigrationWasResolvedToIsFollowedToItsEnd()
    {
        await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.Begun(_id), Sample.Finished(_id, MigrationState.InDoubt));
        await using (var recovery = await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source))
            await recovery.AppendAsync(new Resolution("settled", "a test"));
        var kinds = new List<string>();
        await foreach (var record in JournalReader.FollowAsync(State.JournalPath(_id, MigrationSide.Source), _failsafe.Token))
            kinds.Add(record.GetType().Name);
        Assert.Equal([nameof(Begun), nameof(Finished), nameof(Reopened), nameof(Resolution)], kinds);
    }

    [Fact]
    public async Task AWriterInAnotherProcessIsFollowedUntilItIsKilled()
    {
        using var writer = JournalWriterProcess.Start(JournalWriterProcess.Follow, State, _id);
        try
        {
            await writer.ExpectAsync("begun", _failsafe.Token);
            var path = State.JournalPath(_id, MigrationSide.Source);
            Assert.True(JournalReader.IsWriterAlive(path));
            Assert.True(Assert.Single(await new MigrationHistory(State).ReadAsync()).IsRunning);
            await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source));

            var iterations = new List<PhaulIteration>();
            await foreach (var iteration in new MigrationHistory(State).FollowIterationsAsync(_id, null, _failsafe.Token))
            {
                iterations.Add(iteration);
                if (iteration.Index < 5)
                    await writer.SayAsync("append");
                else
                    writer.Kill();
            }

            Assert.Equal([1, 2, 3, 4, 5], iterations.Select(i => i.Index));
            Assert.False(JournalReader.IsWriterAlive(path));
            var begun = Assert.IsType<Begun>((await JournalReader.ReadAsync(path)).Records[0]);
            Assert.Equal(writer.Pid, begun.Writer!.Pid);
            var summary = Assert.Single(await new MigrationHistory(State).ReadAsync());
            Assert.Equal((false, true, ProgramState.Unknown), (summary.IsRunning, summary.NeedsResolution, summary.ProgramState));
            await using var recovery = await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source);
        }
        finally
        {
            writer.Kill();
        }
    }

    [SkippableFact]
    public async Task ADiskThatIsFullCutsARecordShortAndTheJournalGoesOnWhenThereIsSpaceAgain()
    {
        Skip.IfNot(
            Environment.IsPrivilegedProcess && File.Exists("/usr/bin/unshare"), "needs root and unshare, to mount a tmpfs");
        using var writer = JournalWriterProcess.Start(JournalWriterProcess.FillDisk, State, _id);
        try
        {
            var lines = await writer.ReadToEndAsync(_failsafe.Token);
            Skip.If(lines.Contains("no mount"), "may not mount a tmpfs here");
            Assert.Contains("short write", lines);
            Assert.Contains("done", lines);
            var path = State.JournalPath(_id, MigrationSide.Source);
            var contents = await JournalReader.ReadAsync(path);
            Assert.Null(contents.Corruption);
            Assert.False(contents.Torn);
            // Each record whose append returned is there, and of those that failed none.
            Assert.Equal(
                lines.Where(line => line.StartsWith("wrote ", StringComparison.Ordinal)).Select(line => line["wrote ".Length..]),
                contents.Records.OfType<Warning>().Select(warning => warning.Text[..4]));
            Assert.Contains("#torn", await File.ReadAllTextAsync(path), StringComparison.Ordinal);
        }
        finally
        {
            writer.Kill();
        }
    }
}
