// What is kept of failed migrations: the latest few, not for long, and never anything that somebody may still need.

using Phaul.Journal;
using Phaul.Tests.Journal;

namespace Phaul.Tests.Migration;

public sealed class FailedImagesTests : IDisposable
{
    private readonly TemporaryState _state = new();
    private readonly DirectoryInfo _images = Directory.CreateTempSubdirectory("phaul-failed-");

    public void Dispose()
    {
        _images.Delete(recursive: true);
        _state.Dispose();
    }

    [Fact]
    public async Task The_oldest_beyond_the_number_go_and_nothing_unsettled_counts_or_goes()
    {
        var failed = new List<string>();
        for (var index = 0; index < 4; index++)
            failed.Add(await MigrationAsync(MigrationState.RolledBack));
        var kept = await MigrationAsync(MigrationState.InDoubt);
        var unknown = Make(MigrationId.New());
        var completed = await MigrationAsync(MigrationState.Completed);

        await TrimAsync(maxCount: 2, TimeSpan.FromDays(1));

        Assert.Equal([false, false, true, true], failed.Select(Directory.Exists));
        Assert.True(Directory.Exists(kept) && Directory.Exists(unknown) && Directory.Exists(completed));
    }

    [Fact]
    public async Task What_is_too_old_goes_whatever_the_number()
    {
        var failed = await MigrationAsync(MigrationState.RolledBack);
        await TrimAsync(maxCount: 10, TimeSpan.FromDays(1));
        Assert.True(Directory.Exists(failed));
        await TrimAsync(maxCount: 10, TimeSpan.Zero);
        Assert.False(Directory.Exists(failed));
    }

    private Task TrimAsync(int maxCount, TimeSpan maxAge) => FailedImages.TrimAsync(
        _state.State, _images.FullName, MigrationSide.Source, maxCount, maxAge, text => Assert.Fail(text), CancellationToken.None);

    private async Task<string> MigrationAsync(MigrationState end)
    {
        var id = MigrationId.New();
        var final = end == MigrationState.InDoubt ? ProgramState.Unknown : ProgramState.RunningOnSource;
        await Sample.WriteAsync(
            _state.State, id, MigrationSide.Source, Sample.Begun(id), Sample.Entered(MigrationState.Connecting), Sample.Entered(end),
            Sample.Finished(id, end, program: final));
        return Make(id);
    }

    private string Make(string id)
    {
        var directory = WorkDirectory.For(_images.FullName, id, MigrationSide.Source);
        directory.Create();
        File.WriteAllText(Path.Combine(directory.Path, "dump.log"), "");
        return directory.Path;
    }
}
