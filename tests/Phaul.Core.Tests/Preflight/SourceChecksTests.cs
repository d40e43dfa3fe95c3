// The source's checks against real programs, each of which does the one thing that a check is there for.

using System.Net.Sockets;
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Engines;
using Phaul.Preflight;
using Phaul.Procfs;
using Phaul.Tests.Engines;

namespace Phaul.Tests.Preflight;

public sealed class SourceChecksTests : IDisposable
{
    private static readonly CriuFacts Criu42 =
        new("criu") { Version = new CriuVersion(4, 2), Features = new CriuFeatures { MemTrack = true, LazyPages = true } };

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-checks-");

    public void Dispose() => _directory.Delete(recursive: true);

    [SkippableFact]
    public async Task HasNothingAgainstAPlainDaemon()
    {
        await using var program = await PythonProgram.StartAsync("""
            left, right = socket.socketpair()
            read, write = os.pipe()
            listener = socket.create_server(("127.0.0.1", 0))
            epoll = select.epoll()
            log = open(sys.argv[1] + "/log", "a")
            ready(sleep_in_child())
            """, _directory.FullName);

        var results = await CheckAsync(program.Pid);

        Assert.All(results.Where(result => result.Name != "Capabilities"), result =>
            Assert.True(result.Verdict is CheckVerdict.Passed or CheckVerdict.Skipped, result.ToString()));
    }

    [SkippableFact]
    public async Task FindsFileLocks()
    {
        await using var program = await PythonProgram.StartAsync("""
            f = open(sys.argv[1] + "/flocked", "w"); fcntl.flock(f, fcntl.LOCK_EX)
            p = open(sys.argv[1] + "/posix", "w"); fcntl.lockf(p, fcntl.LOCK_EX)
            ready(f.fileno())
            """, _directory.FullName);

        var refused = await CheckAsync(program.Pid, "FileLocks");
        AssertFailed(refused, "--file-locks / -FileLocks", $"rocess {program.Pid} (python3", $"descriptor {program.Words[0]}",
            "FLOCK WRITE", "/flocked", "POSIX WRITE", "/posix");
        Assert.Equal(CheckVerdict.Passed, (await CheckAsync(program.Pid, "FileLocks", new ProcessOptions { FileLocks = true })).Verdict);
    }

    [SkippableFact]
    public async Task FindsConnections()
    {
        await using var program = await PythonProgram.StartAsync("""
            listener = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(listener.getsockname())
            server, peer = listener.accept()
            waiting = socket.create_connection(listener.getsockname())
            ready(client.getsockname()[1])
            """);

        var refused = await CheckAsync(program.Pid, "TcpEstablished");
        AssertFailed(refused, "--tcp-established / -TcpEstablished", $"127.0.0.1:{program.Words[0]}", "1 connections not accepted");
        Assert.Contains("--skip-in-flight / -TcpSkipInFlight", refused.Remedy, StringComparison.Ordinal);
        Assert.Equal(CheckVerdict.Warning,
            (await CheckAsync(program.Pid, "TcpEstablished", new ProcessOptions { TcpEstablished = true })).Verdict);
        Assert.Equal(
            CheckVerdict.Passed,
            (await CheckAsync(program.Pid, "TcpEstablished", new ProcessOptions { TcpClose = true, TcpSkipInFlight = true })).Verdict);
    }

    [SkippableFact]
    public async Task FindsUnixSocketsConnectedToOthers()
    {
        string stream = Path.Combine(_directory.FullName, "stream");
        string datagram = Path.Combine(_directory.FullName, "datagram");
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(stream));
        listener.Listen();
        using var receiver = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        receiver.Bind(new UnixDomainSocketEndPoint(datagram));
        const string script = """
            s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if sys.argv[1] == "stream" else socket.SOCK_DGRAM)
            s.connect(sys.argv[2])
            ready(s.fileno())
            """;

        await using var streaming = await PythonProgram.StartAsync(script, "stream", stream);
        using var accepted = await listener.AcceptAsync();
        AssertFailed(await CheckAsync(streaming.Pid, "ExternalUnixSockets"), "as one tree", $"descriptor {streaming.Words[0]}", "stream",
            stream);
        // The option does not help a stream: CRIU then fails all the same.
        Assert.Equal(
            CheckVerdict.Failed,
            (await CheckAsync(streaming.Pid, "ExternalUnixSockets", new ProcessOptions { ExternalUnixSockets = true })).Verdict);

        await using var sending = await PythonProgram.StartAsync(script, "datagram", datagram);
        AssertFailed(
            await CheckAsync(sending.Pid, "ExternalUnixSockets"), "--ext-unix-sk / -ExternalUnixSockets",
            $"descriptor {sending.Words[0]}", datagram);
        Assert.Equal(
            CheckVerdict.Passed,
            (await CheckAsync(sending.Pid, "ExternalUnixSockets", new ProcessOptions { ExternalUnixSockets = true })).Verdict);
    }

    [SkippableFact]
    public async Task FindsTerminalsAndSessionsOfOthers()
    {
        await using var program = await PythonProgram.StartAsync("""
            import pty
            on_terminal, master = pty.fork()
            if on_terminal == 0:
                while True: signal.pause()
            while os.getsid(on_terminal) != on_terminal: time.sleep(0.001)
            in_session = sleep_in_child()
            ready(on_terminal, in_session)
            """);
        int onTerminal = int.Parse(program.Words[0]);
        int inSession = int.Parse(program.Words[1]);

        AssertFailed(await CheckAsync(onTerminal, "ShellJob"), "--shell-job / -ShellJob", "/dev/pts/", $"rocess {onTerminal}");
        AssertFailed(await CheckAsync(inSession, "ShellJob"), "--shell-job / -ShellJob", "not a session leader", $"{program.Pid}");
        Assert.Equal(CheckVerdict.Passed, (await CheckAsync(inSession, "ShellJob", new ProcessOptions { ShellJob = true })).Verdict);
        // The whole tree has both sides of the terminal.
        Assert.Equal(CheckVerdict.Passed, (await CheckAsync(program.Pid, "ShellJob")).Verdict);
    }

    [SkippableFact]
    public async Task FindsUnlinkedFiles()
    {
        await using var program = await PythonProgram.StartAsync("""
            big = open(sys.argv[1] + "/big", "wb"); big.write(b"x" * (3 << 20)); big.flush(); os.unlink(big.name)
            small = open(sys.argv[1] + "/small", "wb"); small.write(b"x"); small.flush(); os.unlink(small.name)
            two = open(sys.argv[1] + "/two", "wb"); os.link(two.name, two.name + "-names"); os.unlink(two.name)
            memory = os.memfd_create("large"); os.ftruncate(memory, 8 << 20); os.pwrite(memory, b"x" * (8 << 20), 0)
            ready(big.fileno(), two.fileno())
            """, _directory.FullName);

        var ghost = await CheckAsync(program.Pid, "GhostLimit");
        AssertFailed(ghost, "--ghost-limit 4194304 / -GhostLimit 4194304", $"descriptor {program.Words[0]}", "/big");
        Assert.DoesNotContain("/small", ghost.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("memfd", ghost.Message, StringComparison.Ordinal);
        Assert.Equal(CheckVerdict.Passed, (await CheckAsync(program.Pid, "GhostLimit", new ProcessOptions { GhostLimit = 4 << 20 }))
            .Verdict);

        AssertFailed(await CheckAsync(program.Pid, "LinkRemap"), "--link-remap / -LinkRemap", $"descriptor {program.Words[1]}", "/two");
        Assert.Equal(CheckVerdict.Passed, (await CheckAsync(program.Pid, "LinkRemap", new ProcessOptions { LinkRemap = true })).Verdict);
    }

    [SkippableFact]
    public async Task FindsWhatCriuAlwaysRefuses()
    {
        await using var program = await PythonProgram.StartAsync("""
            watch = libc.inotify_init1(0)
            assert libc.inotify_add_watch(watch, b"/proc/self", 2) > 0
            harmless = libc.inotify_init1(0)
            assert libc.inotify_add_watch(harmless, b"/tmp", 2) > 0
            libc.shmat.restype = ctypes.c_void_p
            memory = libc.shmget(0, 4096, 0o1600)
            assert memory >= 0 and libc.shmat(memory, None, 0) != 2**64 - 1
            libc.shmctl(memory, 0, None)
            parameters = ctypes.create_string_buffer(120)
            uring = libc.syscall(425, 4, parameters)
            ready(watch, harmless, uring)
            """);

        var inotify = await CheckAsync(program.Pid, "Inotify");
        AssertFailed(inotify, "watch", $"descriptor {program.Words[0]}", "/proc");
        Assert.DoesNotContain($"descriptor {program.Words[1]} ", inotify.Message, StringComparison.Ordinal);
        AssertFailed(await CheckAsync(program.Pid, "SystemVMemory"), "unshare --ipc", "/SYSV00000000", $"{program.Pid}");
        Skip.If(program.Words[2] == "-1", "This kernel does not let the test make an io_uring.");
        AssertFailed(await CheckAsync(program.Pid, "IoUring"), "io_uring", $"descriptor {program.Words[2]} is an io_uring");
    }

    [SkippableFact]
    public async Task FindsDescriptorsOfKindsThatCriuDoesNotKnow()
    {
        await using var program = await PythonProgram.StartAsync("""
            own = os.pidfd_open(sleep_in_child())
            foreign = os.pidfd_open(int(sys.argv[1]))
            machine = socket.socket(40, socket.SOCK_STREAM)
            ready(own, foreign, machine.fileno())
            """, $"{Environment.ProcessId}");

        var result = await CheckAsync(program.Pid, "Descriptors");
        AssertFailed(
            result, "Migrate a tree that has both", $"descriptor {program.Words[1]} is a pidfd of process {Environment.ProcessId}",
            $"descriptor {program.Words[2]} is a socket of the protocol AF_VSOCK");
        Assert.DoesNotContain($"descriptor {program.Words[0]} ", result.Message, StringComparison.Ordinal);
    }

    [SkippableFact]
    public async Task FindsATracer()
    {
        await using var program = await PythonProgram.StartAsync("ready()");
        await using var tracer = await PythonProgram.StartAsync("""
            ready(libc.ptrace(0x4206, int(sys.argv[1]), 0, 0))
            """, $"{program.Pid}");
        Skip.If(tracer.Words[0] != "0", "This test may not trace.");

        AssertFailed(await CheckAsync(program.Pid, "Traced"), $"Detach process {tracer.Pid}", $"rocess {program.Pid}");
    }

    [SkippableFact]
    public async Task FindsInternetSocketsThatAnOldCriuCannotDump()
    {
        await using var program = await PythonProgram.StartAsync("""
            s = socket.socket()
            ready(s.fileno())
            """);
        var tree = await TreeInspector.InspectAsync(ProcessTree.Capture(program.Pid), CancellationToken.None);

        var finding = Assert.Single(RefusalChecks.SocketOptions(tree, new CriuVersion(4, 1, 1), "6.18.44-x"));
        Assert.Contains($"descriptor {program.Words[0]} is a TCP socket", finding.Message, StringComparison.Ordinal);
        Assert.Empty(RefusalChecks.SocketOptions(tree, new CriuVersion(4, 2), "6.18.44-x"));
        Assert.Empty(RefusalChecks.SocketOptions(tree, new CriuVersion(4, 1, 1), "6.12.1"));
    }

    [SkippableFact]
    public async Task KnowsWhatEachCapabilityIsFor()
    {
        await using var program = await PythonProgram.StartAsync("""
            os.setgid(65534); os.setuid(65534)
            ready()
            """);
        var tree = await TreeInspector.InspectAsync(ProcessTree.Capture(program.Pid), CancellationToken.None);
        const ulong all = 0x1ffffffffff;
        const ulong resource = 1UL << 24;

        Assert.Empty(Run(all, 0));
        var another = Assert.Single(Run(all & ~resource, 0));
        Assert.Contains("CAP_SYS_RESOURCE", another.Message, StringComparison.Ordinal);
        Assert.Contains($"process {program.Pid}", another.Message, StringComparison.Ordinal);
        Assert.Contains("uid 65534", another.Message, StringComparison.Ordinal);
        Assert.Empty(Run(all & ~resource, 65534));
        Assert.Contains(Run(0, 0), finding => finding.Message.Contains("CAP_CHECKPOINT_RESTORE", StringComparison.Ordinal));

        List<Finding> Run(ulong capabilities, uint user) =>
            [.. CapabilityCheck.Run(new ProcStatus { EffectiveCapabilities = capabilities, Uids = [user], Gids = [user] }, tree,
                new ProcessOptions())];
    }

    [Theory]
    [InlineData(MigrationMode.Auto, true, CheckVerdict.Passed)]
    [InlineData(MigrationMode.Auto, false, CheckVerdict.Warning)]
    [InlineData(MigrationMode.PreCopy, true, CheckVerdict.Passed)]
    [InlineData(MigrationMode.PreCopy, false, CheckVerdict.Failed)]
    [InlineData(MigrationMode.Hybrid, false, CheckVerdict.Failed)]
    [InlineData(MigrationMode.StopAndCopy, false, CheckVerdict.Skipped)]
    [InlineData(MigrationMode.PostCopy, false, CheckVerdict.Skipped)]
    public void WantsDirtyTrackingWhereItIsUsed(MigrationMode mode, bool tracks, CheckVerdict verdict)
    {
        var finding = Assert.Single(SourceChecks.DirtyTracking(Criu42 with { Features = new CriuFeatures { MemTrack = tracks } }, mode));
        Assert.Equal(verdict, finding.Verdict);
        Assert.Equal(verdict is CheckVerdict.Warning or CheckVerdict.Failed, finding.Remedy is not null);
    }

    [Theory]
    [InlineData(MigrationMode.Auto, CheckVerdict.Warning)]
    [InlineData(MigrationMode.PreCopy, CheckVerdict.Failed)]
    public void DoesNotTrustAFeatureThatFailsWhenTried(MigrationMode mode, CheckVerdict verdict)
    {
        var facts = Criu42 with { Features = new CriuFeatures { MemTrack = true }, TrackingFailure = "CRIU PreDump: failed" };
        var finding = Assert.Single(SourceChecks.DirtyTracking(facts, mode));
        Assert.Equal(verdict, finding.Verdict);
        Assert.Contains("CRIU PreDump: failed", finding.Message);
        Assert.NotNull(finding.Remedy);
    }

    [Theory]
    [InlineData(3, 16, CheckVerdict.Failed)]
    [InlineData(3, 17, CheckVerdict.Warning)]
    [InlineData(4, 1, CheckVerdict.Passed)]
    [InlineData(4, 3, CheckVerdict.Passed)]
    public void KnowsWhichCriusWork(int major, int minor, CheckVerdict verdict) =>
        Assert.Equal(verdict, Assert.Single(CriuChecks.Version(new CriuFacts("criu") { Version = new CriuVersion(major, minor) })).Verdict);

    [SkippableTheory]
    [InlineData(null, "There is no criu here")]
    [InlineData("#!/bin/sh\nexit 3\n", "does not work")]
    [InlineData("#!/bin/sh\nexec cat >/dev/null\n", "does not work")]
    [InlineData("#!/bin/sh\nexec sleep 1000\n", "does not work")]
    public async Task SaysSoWhereCriuIsAbsentOrBroken(string? script, string message)
    {
        await using var program = await PythonProgram.StartAsync("ready()");
        string criu = Path.Combine(_directory.FullName, "criu");
        if (script is not null)
        {
            await File.WriteAllTextAsync(criu, script);
            File.SetUnixFileMode(criu, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        var results = await SourceChecks.RunAsync(
            ProcessTree.Capture(program.Pid), Request(program.Pid, new ProcessOptions()) with { CriuPath = criu },
            Path.Combine(_directory.FullName, "work"));

        AssertFailed(results.Single(result => result.Name == "CriuPresent"), "criu", message);
        Assert.Equal(CheckVerdict.Skipped, results.Single(result => result.Name == "CriuVersion").Verdict);
        Assert.Equal(CheckVerdict.Passed, results.Single(result => result.Name == "FileLocks").Verdict);
        Assert.Equal(CheckVerdict.Passed, results.Single(result => result.Name == "Space").Verdict);
    }

    [SkippableFact]
    public async Task FindsTooLittleSpace()
    {
        await using var program = await PythonProgram.StartAsync("ready()");
        // A file system that never has room.
        var space = (await SourceChecks.RunAsync(
            Request(program.Pid, new ProcessOptions()), "/proc/no/such/place",
            TreeInspector.InspectAsync(ProcessTree.Capture(program.Pid), CancellationToken.None), Task.FromResult(Criu42),
            CheckList.DefaultLimit, CancellationToken.None)).Single(result => result.Name == "Space");
        AssertFailed(space, "--work-directory / -WorkDirectory", "/proc has 0 MiB free");
    }

    private static MigrationRequest Request(int pid, ProcessOptions options) =>
        new() { Pid = pid, Destination = new MigrationEndpoint { Host = "nowhere" }, Options = options };

    private static void AssertFailed(CheckResult result, string remedy, params string[] says)
    {
        Assert.True(result.Verdict == CheckVerdict.Failed, result.ToString());
        Assert.Contains(remedy, result.Remedy, StringComparison.Ordinal);
        Assert.All(says, words => Assert.Contains(words, result.Message, StringComparison.Ordinal));
    }

    private async Task<CheckResult> CheckAsync(int pid, string name, ProcessOptions? options = null) =>
        (await CheckAsync(pid, options)).Single(result => result.Name == name);

    private Task<IReadOnlyList<CheckResult>> CheckAsync(int pid, ProcessOptions? options = null) => SourceChecks.RunAsync(
        Request(pid, options ?? new ProcessOptions()), Path.Combine(_directory.FullName, "work"),
        TreeInspector.InspectAsync(ProcessTree.Capture(pid), CancellationToken.None), Task.FromResult(Criu42), CheckList.DefaultLimit,
        CancellationToken.None);
}
