// Whose memory somebody else delivers is read off smaps.

using Phaul.Preflight;
using Phaul.Procfs;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Preflight;

public sealed class LateMemoryCheckTests
{
    [Theory]
    [InlineData("VmFlags: rd wr mr mw me ac um", true)]
    [InlineData("VmFlags: rd wr mr mw me ac sd", false)]
    [InlineData("Volume: um", null)]
    // A process that is ending has a file without lines
    [InlineData("", null)]
    public void AMappingWithTheFlagIsLate(string line, bool? late)
    {
        using var proc = new TemporaryDirectory();
        proc.MakeDirectory("7");
        File.WriteAllText(proc["7/smaps"], $"7f00-7f01 rw-p 00000000 00:00 0\nRss: 4 kB\n{line}\n");
        Assert.Equal(late, LateMemoryCheck.IsLate(new ProcFileSystem(proc.Path), 7));
    }
}
