// The writer: where it writes, what it refuses, and its lock.

using System.Globalization;
using System.Text.Json;
using Phaul.Journal;
using Phaul.Native;

namespace Phaul.Tests.Journal;

public sealed class MigrationJournalTests : IDisposable
{
    private const UnixFileMode OwnerDirectory = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private const UnixFileMode OwnerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly TemporaryState _temporary = new();
    private readonly string _id = StateDirectory.NewMigrationId();

    private StateDirectory State => _temporary.State;

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task FilesAndDirectoriesAreTheOwnersAlone()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Destination);
        await journal.AppendAsync(Sample.Begun(_id, MigrationSide.Destination), durable: true);

        Assert.Equal(OwnerFile, File.GetUnixFileMode(journal.Path));
        Assert.Equal(Path.Combine(State.Path, "migrations", _id, "destination.jsonl"), journal.Path);
        foreach (var directory in new[] { State.Path, Path.Combine(State.Path, "migrations"), State.MigrationPath(_id) })
            Assert.Equal(OwnerDirectory, File.GetUnixFileMode(directory));
        Assert.Equal([journal.Path], Directory.GetFileSystemEntries(State.MigrationPath(_id)));
    }

    [Fact]
    public async Task AStateDirectoryThatEverybodyMayWriteToIsRefused()
    {
        Directory.CreateDirectory(State.Path);
        File.SetUnixFileMode(State.Path, OwnerDirectory | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute);
        var refused = await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.CreateAsync(State, _id, MigrationSide.Source));
        Assert.Equal(PhaulErrorId.JournalFailed, refused.ErrorId);
        Assert.Empty(Directory.GetFileSystemEntries(State.Path));
    }

    [Fact]
    public async Task AJournalIsBegunOnce()
    {
        var path = await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.Begun(_id));
        var before = await File.ReadAllBytesAsync(path);

        var refused = await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.CreateAsync(State, _id, MigrationSide.Source));

        Assert.Equal(PhaulErrorId.JournalFailed, refused.ErrorId);
        Assert.Equal(before, await File.ReadAllBytesAsync(path));
        Assert.Equal([path], Directory.GetFileSystemEntries(State.MigrationPath(_id)));
        // The other side is another journal.
        await Sample.WriteAsync(State, _id, MigrationSide.Destination, Sample.Begun(_id, MigrationSide.Destination));
    }

    [Fact]
    public async Task OfSeveralWhoBeginAJournalAtOnceOneDoes()
    {
        for (var round = 0; round < 100; round++)
        {
            var id = StateDirectory.NewMigrationId();
            var begun = await Task.WhenAll(Enumerable.Range(0, 4).Select(async _ =>
            {
                try
                {
                    return await MigrationJournal.CreateAsync(State, id, MigrationSide.Source);
                }
                catch (PhaulException e) when (e.ErrorId == PhaulErrorId.JournalFailed)
                {
                    return null;
                }
            }));
            await using var journal = Assert.Single(begun, one => one is not null)!;
            await journal.AppendAsync(Sample.Begun(id));
            Assert.Single((await JournalReader.ReadAsync(journal.Path)).Records);
            Assert.Equal([journal.Path], Directory.GetFileSystemEntries(State.MigrationPath(id)));
        }
    }

    [Fact]
    public async Task OnlyOneWriterAtATimeAndItsLifeIsSeen()
    {
        var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        // Seen as alive before the first record, so that nobody takes a beginning for an end.
        Assert.True(JournalReader.IsWriterAlive(journal.Path));
        await journal.AppendAsync(Sample.Begun(_id));
        await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source));
        Assert.True(JournalReader.IsWriterAlive(journal.Path));
        await journal.DisposeAsync();
        Assert.False(JournalReader.IsWriterAlive(journal.Path));

        await using var recovery = await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source);
        Assert.True(JournalReader.IsWriterAlive(journal.Path));
        await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source));
    }

    [Fact]
    public async Task TheLockEndsWithTheWriterThoughAChildHasTheFileStill()
    {
        var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        // What a fork does on another thread: one more descriptor of the same open file, until the child executes its program.
        var descriptor = Directory.EnumerateFileSystemEntries("/proc/self/fd")
            .Single(link => new FileInfo(link).LinkTarget?.StartsWith(journal.Path, StringComparison.Ordinal) == true);
        using (DescriptorDuplicate.OfNumber(int.Parse(Path.GetFileName(descriptor), CultureInfo.InvariantCulture)))
        {
            Assert.True(JournalReader.IsWriterAlive(journal.Path));
            await journal.DisposeAsync();
            Assert.False(JournalReader.IsWriterAlive(journal.Path));
            await (await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source)).DisposeAsync();
        }

        await journal.DisposeAsync();
    }

    [Fact]
    public async Task AnyProgramMayReadWhileItIsWritten()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        // .NET takes a shared flock on what it opens, which must not meet the writer's lock.
        Assert.NotEmpty(await File.ReadAllTextAsync(journal.Path));
        await journal.AppendAsync(new Warning("one"));
        Assert.Equal(2, (await JournalReader.ReadAsync(journal.Path)).Records.Count);
    }

    [Fact]
    public async Task LookingAtTheLockNeverStandsInAWritersWay()
    {
        using var stop = new CancellationTokenSource();
        var path = await Sample.WriteAsync(State, _id, MigrationSide.Source, Sample.Begun(_id));
        var looking = Task.Run(() =>
        {
            var looks = 0;
            for (; !stop.IsCancellationRequested; looks++)
                JournalReader.IsWriterAlive(path);
            return looks;
        });
        for (var n = 0; n < 200; n++)
            await (await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source)).DisposeAsync();
        await stop.CancelAsync();
        Assert.True(await looking > 0);
        Assert.Equal(201, (await JournalReader.ReadAsync(path)).Records.Count);
    }

    [Fact]
    public async Task TheFirstRecordSaysWhichMigrationThisIs()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await Assert.ThrowsAsync<InvalidOperationException>(() => journal.AppendAsync(new CommitIntent()));
        await Assert.ThrowsAsync<InvalidOperationException>(() => journal.AppendAsync(Sample.Begun(StateDirectory.NewMigrationId())));
        await Assert.ThrowsAsync<InvalidOperationException>(() => journal.AppendAsync(Sample.Begun(_id, MigrationSide.Destination)));
        await journal.AppendAsync(Sample.Begun(_id));
        await journal.AppendAsync(new CommitIntent());

        var records = (await JournalReader.ReadAsync(journal.Path)).Records;
        Assert.Equal(2, records.Count);
        var writer = Assert.IsType<Begun>(records[0]).Writer!;
        Assert.Equal(Environment.ProcessId, writer.Pid);
        Assert.True(writer.StartTimeTicks > 0);
        Assert.Equal((await File.ReadAllTextAsync("/proc/sys/kernel/random/boot_id")).Trim(), writer.BootId);
    }

    [Fact]
    public async Task ARefusedRecordLeavesTheJournalAsItWas()
    {
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        var huge = new Warning(new string('x', JournalLine.MaxBytes));
        var tooLong = await Assert.ThrowsAsync<PhaulException>(() => journal.AppendAsync(huge));
        Assert.Equal(PhaulErrorId.JournalFailed, tooLong.ErrorId);
        await Assert.ThrowsAsync<ArgumentException>(() => journal.AppendAsync(new Unknown("x", 1, default)));
        await journal.AppendAsync(new Warning("after"));
        var contents = await JournalReader.ReadAsync(journal.Path);
        Assert.Null(contents.Corruption);
        Assert.Equal(["after"], contents.Records.OfType<Warning>().Select(w => w.Text));
    }

    [Fact]
    public async Task ALargeRecordAndOddTextsSurvive()
    {
        var options = JsonDocument.Parse($$"""{"big":"{{new string('ö', 1 << 20)}}"}""").RootElement;
        string[] texts = ["", "\n", "a\r\nb\u2028", " #torn", "\"}", "\ud800 alone", "\0", "{\"v\":1}"];
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Destination);
        await journal.AppendAsync(Sample.Begun(_id, MigrationSide.Destination));
        await journal.AppendAsync(new Prepared(1, "b", [], "/i", options));
        foreach (var text in texts)
            await journal.AppendAsync(new Warning(text));

        var contents = await JournalReader.ReadAsync(journal.Path);

        Assert.Null(contents.Corruption);
        Assert.Equal(1 << 20, ((Prepared)contents.Records[1]).RestoreOptions!.Value.GetProperty("big").GetString()!.Length);
        Assert.Equal(texts.Select(t => t.Replace('\ud800', '\ufffd')), contents.Records.OfType<Warning>().Select(w => w.Text));
    }

    [Fact]
    public async Task AppendsFromManyTasksAreOneSequence()
    {
        await using (var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source))
        {
            await journal.AppendAsync(Sample.Begun(_id));
            await Task.WhenAll(Enumerable.Range(0, 20).Select(task => Task.Run(async () =>
            {
                for (var n = 0; n < 25; n++)
                    await journal.AppendAsync(new Warning($"{task} {n}"), durable: n % 10 == 0);
            })));
        }

        var contents = await JournalReader.ReadAsync(State.JournalPath(_id, MigrationSide.Source));
        Assert.Null(contents.Corruption);
        var byTask = contents.Records.OfType<Warning>().Select(w => w.Text.Split(' ')).ToLookup(t => t[0], t => t[1]);
        Assert.Equal(20, byTask.Count);
        Assert.All(byTask, texts => Assert.Equal(Enumerable.Range(0, 25).Select(n => $"{n}"), texts));
    }

    [Fact]
    public async Task AfterTheEndNothingIsAppended()
    {
        var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        await journal.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => journal.AppendAsync(new CommitIntent()));
        await journal.DisposeAsync();
    }

    [Fact]
    public async Task ACancelledCallerDoesNotHarmTheJournal()
    {
        using var cancelled = new CancellationTokenSource();
        await using var journal = await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source);
        await journal.AppendAsync(Sample.Begun(_id));
        for (var n = 0; n < 50; n++)
        {
            using var soon = new CancellationTokenSource();
            var append = journal.AppendAsync(new Warning($"{n}"), durable: true, soon.Token);
            await soon.CancelAsync();
            await append.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }

        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => journal.AppendAsync(new CommitIntent(), true, cancelled.Token));
        await journal.AppendAsync(new Warning("last"));

        var contents = await JournalReader.ReadAsync(journal.Path);
        Assert.Null(contents.Corruption);
        Assert.Equal("last", Assert.IsType<Warning>(contents.Records[^1]).Text);
        Assert.DoesNotContain(contents.Records, r => r is CommitIntent);
    }

    [Fact]
    public async Task NoJournalNoRecovery()
    {
        var failed = await Assert.ThrowsAsync<PhaulException>(
            () => MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source));
        Assert.Equal(PhaulErrorId.JournalFailed, failed.ErrorId);
        Assert.False(JournalReader.IsWriterAlive(State.JournalPath(_id, MigrationSide.Source)));
        await Assert.ThrowsAsync<PhaulException>(() => JournalReader.ReadAsync(State.JournalPath(_id, MigrationSide.Source)));
        Assert.False(Directory.Exists(State.Path));
    }

    [Fact]
    public async Task AWriterThatDiedBeforeItsFirstRecordLeavesAJournalThatCanBeBegunInItsPlace()
    {
        await (await MigrationJournal.CreateAsync(State, _id, MigrationSide.Source)).DisposeAsync();
        await using var recovery = await MigrationJournal.OpenForRecoveryAsync(State, _id, MigrationSide.Source);
        await recovery.AppendAsync(Sample.Begun(_id));
        Assert.IsType<Begun>(Assert.Single((await JournalReader.ReadAsync(recovery.Path)).Records));
    }
}
