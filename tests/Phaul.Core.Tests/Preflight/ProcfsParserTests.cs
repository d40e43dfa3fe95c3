// Properties of the /proc parsers over random inputs: what was written is read back, and garbage does no harm.

using System.Globalization;
using System.Net;
using System.Text;
using Phaul.Native;
using Phaul.Procfs;
using Phaul.Tests.Engines;

namespace Phaul.Tests.Preflight;

public sealed class ProcfsParserTests
{
    private const int Rounds = 2000;

    [Fact]
    public void StatIsReadBackWhateverTheCommand() => ForManySeeds(random =>
    {
        string command = Text(random, ") (\n:RSZ019 ab", 15);
        var expected = new ProcStat(
            random.Next(1, 4194304), command, "RSDZTtX"[random.Next(7)], random.Next(4194304), random.Next(4194304), random.Next(4194304),
            0,
            4194304, (ulong)random.NextInt64());
        string line = FakeProc.StatLine(
            expected.Pid, command, expected.State, expected.ParentPid, expected.ProcessGroupId, expected.SessionId, expected.StartTime);
        Assert.Equal(expected, ProcStat.Parse(line));
        Assert.Equal(expected.StartTime, ProcessIdentity.ParseStartTime(line));
    });

    [Fact]
    public void MapsAreReadBack() => ForManySeeds(random =>
    {
        var expected = new List<ProcMapping>();
        var text = new StringBuilder();
        for (int i = random.Next(5); i >= 0; i--)
        {
            ulong start = (ulong)random.NextInt64() << 1;
            ulong end = start + (ulong)random.Next(1, 1 << 30);
            if (end < start) continue;
            string permissions = string.Concat("rwx".Select(letter => random.Next(2) == 0 ? letter : '-')) + "ps"[random.Next(2)];
            string path = random.Next(4) switch { 0 => "", 1 => "[heap]", _ => "/" + Text(random, "ab /\n(.)", 30).Trim(' ') };
            // A file whose name ends like the kernel's mark cannot be told from a deleted one.
            if (path.EndsWith(" (deleted)", StringComparison.Ordinal)) path = "/x";
            bool deleted = path.StartsWith('/') && random.Next(3) == 0;
            ulong inode = path.StartsWith('/') ? (ulong)random.NextInt64() : 0;
            expected.Add(new ProcMapping(start, end, permissions, inode, path, deleted));
            string written = path.Replace("\n", "\\012", StringComparison.Ordinal) + (deleted ? " (deleted)" : "");
            string head = $"{start:x}-{end:x} {permissions} {random.Next():x8} fe:00 {inode}";
            text.Append(written.Length == 0 ? head + " \n" : head.PadRight(72) + " " + written + "\n");
        }

        Assert.Equal(expected, ProcMapping.Parse(text.ToString()));
    });

    [Fact]
    public void MapsOfThisProcessAreAllRead()
    {
        string text = ProcFileSystem.Host.ReadText("self/maps")!;
        var mappings = ProcMapping.Parse(text);
        Assert.Equal(text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length, mappings.Count);
        Assert.Contains(mappings, mapping => mapping.IsNamedFile && mapping.IsExecutable
            && mapping.Path.Contains("libc", StringComparison.Ordinal));
        Assert.Contains(mappings, mapping => mapping.Path == "[stack]");
    }

    [Fact]
    public void DescriptorInfoIsReadBack() => ForManySeeds(random =>
    {
        uint flags = (uint)random.NextInt64(1L << 32);
        int mount = random.Next();
        var locks = new List<ProcLock>();
        var devices = new List<(uint, uint)>();
        var text = new StringBuilder($"pos:\t{random.Next()}\nflags:\t0{Convert.ToString(flags, 8)}\nmnt_id:\t{mount}\nino:\t5\n");
        for (int i = random.Next(4); i > 0; i--)
        {
            var held = new ProcLock(
                new[] { "FLOCK", "POSIX", "OFDLCK", "LEASE" }[random.Next(4)], random.Next(2) == 0 ? "READ" : "WRITE",
                random.Next(-1, 100000));
            locks.Add(held);
            text.Append($"lock:\t{i}: {held.Kind}  ADVISORY  {held.Access} {held.OwnerPid} fe:00:{random.Next()} 0 EOF\n");
            if (random.Next(2) == 0) text.Append($"lock:\t{i}: -> {held.Kind}  ADVISORY  {held.Access} {held.OwnerPid} fe:00:1 0 EOF\n");
        }

        for (int i = random.Next(4); i > 0; i--)
        {
            (uint major, uint minor) = ((uint)random.Next(1 << 12), (uint)random.Next(1 << 20));
            devices.Add((major, minor));
            text.Append($"inotify wd:{i} ino:{random.Next():x} sdev:{major << 20 | minor:x} mask:fce ignored_mask:0 fhandle-bytes:8\n");
        }

        var info = ProcDescriptorInfo.Parse(text.ToString());
        Assert.Equal((flags, mount), (info.Flags, info.MountId));
        Assert.Equal(locks, info.Locks);
        Assert.Equal(devices, info.WatchedDevices);
    });

    [Fact]
    public void LinesOfProcLocksAreRead()
    {
        Assert.Equal(new ProcLock("POSIX", "WRITE", 4711), ProcLock.Parse("1: POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"));
        Assert.Equal(new ProcLock("OFDLCK", "READ", -1), ProcLock.Parse("12: OFDLCK ADVISORY  READ -1 fe:00:1234 0 EOF"));
        Assert.Equal(new ProcLock("LEASE", "WRITE", 7), ProcLock.Parse("3: LEASE  ACTIVE    WRITE 7 fe:00:1234 0 EOF"));
        Assert.Null(ProcLock.Parse("1: -> POSIX  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"));
        Assert.Null(ProcLock.Parse(""));
    }

    [Fact]
    public void InternetSocketsAreReadBack() => ForManySeeds(random =>
    {
        string protocol = ProcInetSocket.Protocols[random.Next(4)];
        var expected = new ProcInetSocket(
            protocol, EndPoint(), EndPoint(), random.Next(1, 13), (uint)random.NextInt64(1L << 32), (ulong)random.NextInt64());
        string line = $"   0: {Written(expected.Local)} {Written(expected.Remote)} {expected.State:X2} 00000000:{expected.ReceiveQueue:X8} "
            + $"00:00000000 00000000     0        0 {expected.Inode} 1 0000000000000000 100 0 0 10 0\n";
        Assert.Equal([expected], ProcInetSocket.Parse(protocol, "  sl  local_address rem_address   st\n" + line));

        IPEndPoint EndPoint()
        {
            byte[] address = new byte[protocol.EndsWith('6') ? 16 : 4];
            random.NextBytes(address);
            return new IPEndPoint(new IPAddress(address), random.Next(65536));
        }

        static string Written(IPEndPoint endPoint) =>
            string.Concat(endPoint.Address.GetAddressBytes().Chunk(4)
                .Select(word => BitConverter.ToUInt32(word).ToString("X8", CultureInfo.InvariantCulture)))
            + $":{endPoint.Port:X4}";
    });

    [Fact]
    public void MountsAreReadBack() => ForManySeeds(random =>
    {
        var expected = new ProcMount(
            random.Next(), ((uint)random.Next(4096), (uint)random.Next(1 << 20)), "/" + Text(random, "ab \t\n\\01#", 20), "ext4");
        string escaped = string.Concat(expected.MountPoint.Select(letter =>
            letter is ' ' or '\t' or '\n' or '\\' ? "\\" + Convert.ToString(letter, 8).PadLeft(3, '0') : letter.ToString()));
        string optional = random.Next(2) == 0 ? "shared:1 master:2 " : "";
        string line =
            $"{expected.Id} 35 {expected.Device.Major}:{expected.Device.Minor} / {escaped} rw,noatime {optional}- ext4 /dev/root rw\n";
        Assert.Equal([expected], ProcMount.Parse(line));
    });

    [Fact]
    public void StatusIsRead()
    {
        var status = ProcStatus.Parse(
            "Name:\tx y\nTgid:\t7\nTracerPid:\t9\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n"
            + "NSpid:\t7\t1\nVmSize:\t   12 kB\nCapEff:\t000001fffeffffff\n");
        Assert.Equal(("x y", 7, 9, 12288UL, 0x1fffeffffffUL),
            (status.Name, status.ThreadGroupId, status.TracerPid, status.VirtualBytes, status.EffectiveCapabilities));
        Assert.Equal([1u, 2u, 3u, 4u], status.Uids);
        Assert.Equal([5u, 6u, 7u, 8u], status.Gids);
        Assert.Equal([7, 1], status.NamespacePids);
    }

    [Fact]
    public void GarbageDoesNoHarm() => ForManySeeds(random =>
    {
        string text = Text(random, "0123456789abcdef:- \t\n()/.lockflagsinotifysdevUidNSpid\u0000\ud800", 400);
        _ = ProcStat.Parse(text);
        _ = ProcStatus.Parse(text);
        _ = ProcMapping.Parse(text);
        _ = ProcDescriptorInfo.Parse(text);
        _ = ProcLock.Parse(text);
        _ = ProcMount.Parse(text);
        foreach (string protocol in ProcInetSocket.Protocols) _ = ProcInetSocket.Parse(protocol, text);
    });

    [Fact]
    public void GarbageFromSockDiagIsRefusedOrIgnored() => ForManySeeds(random =>
    {
        byte[] datagram = new byte[random.Next(200)];
        random.NextBytes(datagram);
        if (datagram.Length >= 16 && random.Next(2) == 0)
        {
            // A header that fits, so that what follows is looked at, too.
            BitConverter.TryWriteBytes(datagram, datagram.Length);
            BitConverter.TryWriteBytes(datagram.AsSpan(4), (ushort)20);
        }

        try
        {
            UnixSocketTable.Parse(datagram, []);
        }
        catch (IOException)
        {
        }
    });

    private static void ForManySeeds(Action<Random> property)
    {
        int first = Random.Shared.Next();
        for (int seed = first; seed != unchecked(first + Rounds); seed++)
        {
            try
            {
                property(new Random(seed));
            }
            catch (Exception e)
            {
                throw new Xunit.Sdk.XunitException($"With seed {seed}: {e}");
            }
        }
    }

    private static string Text(Random random, string alphabet, int maxLength) =>
        string.Concat(Enumerable.Range(0, random.Next(maxLength + 1)).Select(_ => alphabet[random.Next(alphabet.Length)]));
}
