// The layout of the state directory, and the ids that name migrations in it.

using Phaul.Journal;

namespace Phaul.Tests.Journal;

public sealed class StateDirectoryTests : IDisposable
{
    private readonly TemporaryState _temporary = new();

    private StateDirectory State => _temporary.State;

    public void Dispose() => _temporary.Dispose();

    [Theory]
    [InlineData("")]
    [InlineData("..")]
    [InlineData("../../etc/passwd")]
    [InlineData("20261121T224501Z-7f3a9c01/..")]
    [InlineData("../20261121T224501Z-7f3a9c01")]
    [InlineData("20261121T224501Z-7f3a9c01\n")]
    [InlineData("\n20261121T224501Z-7f3a9c01")]
    [InlineData("20261121T224501Z-7F3A9C01")]
    [InlineData("20261121T224501Z-7f3a9c0")]
    [InlineData("20261121T224501Z-7f3a9c011")]
    [InlineData("20261121T224501-7f3a9c01")]
    [InlineData("２0261121T224501Z-7f3a9c01")]
    [InlineData("/20261121T224501Z-7f3a9c01")]
    [InlineData("20261121T224501Z-7f3a9c01\0")]
    public async Task WhatIsNoIdNeverBecomesAPath(string id)
    {
        Assert.False(MigrationId.IsValid(id));
        Assert.Equal(PhaulErrorId.InvalidRequest, Assert.Throws<PhaulException>(() => State.MigrationPath(id)).ErrorId);
        Assert.Throws<PhaulException>(() => State.JournalPath(id, MigrationSide.Source));
        Assert.Throws<PhaulException>(() => State.Sides(id));
        await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.CreateAsync(State, id, MigrationSide.Source));
        await Assert.ThrowsAsync<PhaulException>(() => MigrationJournal.OpenForRecoveryAsync(State, id, MigrationSide.Source));
        await Assert.ThrowsAsync<PhaulException>(() => new MigrationHistory(State).IterationsAsync(id));
        Assert.False(Directory.Exists(State.Path));
    }

    [Fact]
    public void AnIdInAMessageIsShortAndHarmless()
    {
        var message = Assert.Throws<PhaulException>(() => MigrationId.Check("\u001b[2J" + new string('x', 100_000))).Message;
        Assert.True(message.Length < 150);
        Assert.DoesNotContain(message, char.IsControl);
    }

    [Fact]
    public void IdsAreValidUniqueAndSortByTime()
    {
        var time = new DateTimeOffset(2026, 12, 31, 23, 59, 59, 990, TimeSpan.FromHours(2));
        Assert.StartsWith("20261231T215959Z-", MigrationId.New(time), StringComparison.Ordinal);
        var ids = Enumerable.Range(0, 2000).Select(n => MigrationId.New(time.AddMilliseconds(n))).ToArray();
        Assert.All(ids, id => Assert.True(MigrationId.IsValid(id)));
        Assert.Equal(ids.Order(StringComparer.Ordinal), ids);
        Assert.Equal(ids.Length, ids.Distinct().Count());
        Assert.True(MigrationId.IsValid(StateDirectory.NewMigrationId()));
    }

    [Fact]
    public async Task MigrationsAreListedNewestFirstAndStrangersIgnored()
    {
        string[] ids = ["20261121T224501Z-7f3a9c01", "20271121T224501Z-00000000", "20261121T224501Z-7f3a9c00", "20261121T224502Z-00000000"];
        foreach (var id in ids)
            await Sample.WriteAsync(State, id, MigrationSide.Source, Sample.Begun(id));
        var migrations = Path.GetDirectoryName(State.MigrationPath(ids[0]))!;
        Directory.CreateDirectory(Path.Combine(migrations, "lost+found"));
        await File.WriteAllTextAsync(Path.Combine(migrations, "20251121T224501Z-7f3a9c01"), "a file");

        Assert.Equal(ids.OrderDescending(StringComparer.Ordinal), State.Migrations());
        Assert.Equal(ids[1], State.Find("2027"));
        Assert.Equal(ids[0], State.Find(ids[0]));
        Assert.Null(State.Find("2030"));
        Assert.Equal(PhaulErrorId.InvalidRequest, Assert.Throws<PhaulException>(() => State.Find("20261121T224501Z")).ErrorId);
        Assert.Equal(PhaulErrorId.InvalidRequest, Assert.Throws<PhaulException>(() => State.Find("../x")).ErrorId);
        Assert.Equal(PhaulErrorId.InvalidRequest, Assert.Throws<PhaulException>(() => State.Find("")).ErrorId);
    }

    [Fact]
    public async Task ReadingCreatesNothing()
    {
        Assert.Empty(State.Migrations());
        Assert.Null(State.Find("2026"));
        Assert.Empty(await new MigrationHistory(State).ReadAsync());
        Assert.Empty(await new MigrationHistory(State).PruneAsync(TimeSpan.Zero));
        Assert.False(Directory.Exists(State.Path));
    }

    [Theory]
    [InlineData("/p", "/x", true, "/p")]
    [InlineData(null, "/x", true, "/var/lib/phaul")]
    [InlineData("", "/x", false, "/x/phaul")]
    [InlineData(null, null, false, "/home/u/.local/state/phaul")]
    [InlineData(null, "relative", false, "/home/u/.local/state/phaul")]
    public void TheDefaultPathDependsOnTheUserAndTheEnvironment(string? chosen, string? xdg, bool isRoot, string expected)
        => Assert.Equal(expected, StateDirectory.ChooseDefault(name => name == "XDG_STATE_HOME" ? xdg : chosen, isRoot, "/home/u"));
}
