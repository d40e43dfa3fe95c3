// CRIU's lines reach whoever asked for them: whole, in order, once, and not without end.

using System.Threading.Channels;

namespace Phaul.Tests.Migration;

public sealed class CriuLogFollowerTests : IDisposable
{
    private readonly DirectoryInfo _work = Directory.CreateTempSubdirectory("phaul-logs-");
    private readonly Channel<string> _told = Channel.CreateUnbounded<string>();

    public void Dispose() => _work.Delete(recursive: true);

    [Fact]
    public async Task Lines_are_told_as_they_come_whole_and_in_the_order_of_the_directories()
    {
        await using (Follow())
        {
            Append("0/pre-dump.log", "one\ntw");
            Assert.Equal("one", await NextAsync());
            Append("0/pre-dump.log", "o\n");
            Assert.Equal("two", await NextAsync());

            // The last words in one directory are told before the next one's, also where they are no whole line
            Append("0/pre-dump.log", "three");
            Append("1/page-server.log", "four\n");
            Append("1/restore.log", "five\n");
            Assert.Equal("three", await NextAsync());
            Assert.Equal("four", await NextAsync());
            Assert.Equal("five", await NextAsync());
            Append("1/restore.log", "six\nseven");
            Append("1/other.log", "nobody's\n");
        }

        Assert.Equal(["six", "seven"], Rest());
    }

    [Fact]
    public async Task A_log_that_is_begun_anew_is_told_anew()
    {
        await using (Follow())
        {
            Append("0/restore.log", "the first restore\n");
            Assert.Equal("the first restore", await NextAsync());
            File.WriteAllText(Path.Combine(_work.FullName, "0/restore.log"), "the second\n");
            Assert.Equal("the second", await NextAsync());
        }
    }

    [Fact]
    public async Task What_is_told_is_bounded_and_harmless()
    {
        Append("0/dump.log", $"\e[2Jnice\ttry\n{new string('x', 200_000)}\n1\n2\n3\n4\n5\n6\n");
        await (Follow(mostLines: 9)).DisposeAsync();
        var lines = Rest();
        Assert.Equal(" [2Jnice\ttry", lines[0]);
        Assert.All(lines, line => Assert.InRange(line.Length, 1, 1001));
        Assert.Equal(10, lines.Count);
        Assert.Contains("0/dump.log", lines[^1], StringComparison.Ordinal);
        Assert.Equal("4", lines[^2]);
    }

    private CriuLogFollower Follow(int mostLines = 1000) => new(_work.FullName, line => _told.Writer.TryWrite(line), mostLines);

    private async Task<string> NextAsync() => await _told.Reader.ReadAsync().AsTask().WaitAsync(TimeSpan.FromSeconds(60));

    private List<string> Rest()
    {
        var rest = new List<string>();
        while (_told.Reader.TryRead(out var line))
            rest.Add(line);
        return rest;
    }

    private void Append(string log, string text)
    {
        var path = Path.Combine(_work.FullName, log);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.AppendAllText(path, text);
    }
}
