// Which lines of a log are kept.
using Phaul.Criu;
using Phaul.Criu.Rpc;

namespace Phaul.Tests.Criu;

public sealed class CriuLogTests
{
    [Fact]
    public void Errors_come_first_then_the_last_others()
    {
        var lines = Enumerable.Range(0, 30).Select(i => i % 10 == 3 ? $"(0.{i}) Error (x.c:{i}): broken" : $"(0.{i}) fine");
        var kept = CriuLog.Select(string.Join('\n', lines));
        Assert.Equal(20, kept.Count);
        Assert.Equal(["(0.3)", "(0.13)", "(0.23)"], kept.Take(3).Select(line => line.Split(' ')[0]));
        Assert.Equal("(0.29) fine", kept[^1]);
        Assert.Equal("(0.11) fine", kept[3]);
    }

    [Fact]
    public void Many_errors_leave_the_last_twenty_and_old_ones_are_not_looked_at()
    {
        var many = CriuLog.Select(string.Join('\n', Enumerable.Range(0, 100).Select(i => $"Error ({i})")));
        Assert.Equal(Enumerable.Range(80, 20).Select(i => $"Error ({i})"), many);
        var old = CriuLog.Select("Error (old)\n" + string.Concat(Enumerable.Repeat("fine\n", 200)));
        Assert.DoesNotContain("Error (old)", old);
    }

    [Fact]
    public void A_long_log_is_read_from_its_end_and_none_gives_nothing()
    {
        var directory = Directory.CreateTempSubdirectory("phaul-log-");
        File.WriteAllText(Path.Combine(directory.FullName, "x.log"), new string('a', 1 << 20) + "\nError (here)\n");
        Assert.Equal(["Error (here)"], CriuLog.ReadTail(new CriuOpts { ImagesDir = directory.FullName, LogFile = "x.log" }));
        Assert.Empty(CriuLog.ReadTail(new CriuOpts { ImagesDir = directory.FullName, LogFile = "y.log" }));
        Assert.Empty(CriuLog.ReadTail(new CriuOpts { ImagesDir = directory.FullName, LogFile = "../x.log" }));
        Assert.Empty(CriuLog.ReadTail(null));
        directory.Delete(recursive: true);
    }
}
