// The survey of real programs, and the destination's checks against it on the same machine, with one thing made wrong at a time.

using System.Net;
using System.Net.Sockets;
using Google.Protobuf;
using Phaul.Criu;
using Phaul.Engines;
using Phaul.Preflight;
using Phaul.Procfs;
using Phaul.Tests.Engines;
using Phaul.Wire;
using Kind = Phaul.Wire.SurveyedFile.Types.Kind;

namespace Phaul.Tests.Preflight;

public sealed class DestinationChecksTests : IDisposable
{
    private static readonly CriuFacts Criu42 = new("criu") { Version = new CriuVersion(4, 2) };

    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-survey-");

    public void Dispose() => _directory.Delete(recursive: true);

    [SkippableFact]
    public async Task SurveysWhatAProgramUses()
    {
        string data = Path.Combine(_directory.FullName, "data with blanks");
        await File.WriteAllTextAsync(data, "content");
        await using var program = await PythonProgram.StartAsync("""
            memory = bytearray(os.urandom(1 << 20) * 64)
            shared = mmap.mmap(-1, 8 << 20); shared.write(b"x" * (8 << 20))
            reading = open(sys.argv[1] + "/data with blanks")
            writing = open(sys.argv[1] + "/written", "w+"); writing.write("12345"); writing.flush()
            log = open(sys.argv[1] + "/log", "a")
            gone = open(sys.argv[1] + "/gone", "w"); os.unlink(gone.name)
            os.chdir(sys.argv[1])
            procfs = open("/proc/self/status")
            listener = socket.create_server(("127.0.0.1", 0))
            os.fork()
            ready(listener.getsockname()[1])
            """, _directory.FullName);

        var survey = await SurveyAsync(program);

        Assert.Equal(program.Pid, survey.RootPid);
        Assert.Equal(2, survey.Members.Count);
        Assert.Equal((program.Pid, program.Pid), (survey.Members[0].SessionId, survey.Members[0].ProcessGroupId));
        Assert.InRange(survey.MemoryBytes, (64UL + 8) << 20, ((2 * 64UL) + 8 + 64) << 20);
        Assert.True(survey.HasSharedMemory);
        Assert.Empty(survey.OwnNamespaces);
        Assert.Equal([0u], survey.Uids);
        Assert.Equal((uint)Environment.SystemPageSize, survey.PageSize);

        var files = survey.Files.ToDictionary(file => file.Path);
        Assert.Equal((Kind.ReadOnly, 7UL), (files[data].Kind, files[data].Size));
        Assert.Equal(System.Security.Cryptography.SHA256.HashData("content"u8), files[data].Sha256.ToByteArray());
        var written = files[Path.Combine(_directory.FullName, "written")];
        Assert.Equal((Kind.Writable, 5UL, false, true), (written.Kind, written.Size, written.IsLog, written.Sha256.IsEmpty));
        Assert.True(files[Path.Combine(_directory.FullName, "log")].IsLog);
        Assert.Equal(Kind.Directory, files[_directory.FullName].Kind);
        Assert.Equal(Kind.Directory, files["/"].Kind);
        Assert.Equal(Kind.Other, files["/dev/null"].Kind);
        Assert.Contains(files.Values, file => file.Kind == Kind.Executable
            && file.Path.Contains("python3", StringComparison.Ordinal) && file.Sha256.Length == 32);
        Assert.Contains(files.Values, file => file.Kind == Kind.Executable && file.Path.Contains("libc", StringComparison.Ordinal));
        Assert.DoesNotContain(files.Keys, path =>
            path.Contains("/gone", StringComparison.Ordinal) || path.StartsWith("/proc/", StringComparison.Ordinal));

        var port = Assert.Single(survey.ListeningPorts);
        Assert.Equal(("tcp", uint.Parse(program.Words[0])), (port.Protocol, port.Port));
        Assert.Equal(survey, TreeSurvey.Parser.ParseFrom(survey.ToByteArray()));
    }

    [SkippableFact]
    public async Task NamesWhoHasThePids()
    {
        await using var program = await PythonProgram.StartAsync("""
            thread = threading.Thread(target=signal.pause, daemon=True); thread.start()
            read, write = os.pipe()
            leader = os.fork()
            if leader == 0:
                os.setsid()
                follower = sleep_in_child()
                os.write(write, str(follower).encode())
                os._exit(0)
            follower = int(os.read(read, 100))
            os.waitpid(leader, 0)
            ready(thread.native_id, leader, follower)
            """);
        (int thread, int leader, int follower) = (int.Parse(program.Words[0]), int.Parse(program.Words[1]), int.Parse(program.Words[2]));
        try
        {
            AssertFailed(CheckPids(program.Pid), "End that process", $"pid {program.Pid} is in use here: a process (python3");
            AssertFailed(CheckPids(thread), "End that process", $"pid {thread} is in use here: a thread of process {program.Pid}");
            // Nobody has this pid, but a session and a process group are named by it.
            Assert.Null(ProcStat.Read(ProcFileSystem.Host, leader));
            AssertFailed(CheckPids(leader), "End that process", $"pid {leader} is in use here: the session of process {follower}");

            var own = Survey();
            own.Members.Add(new SurveyedProcess { Pid = program.Pid, ThreadIds = { program.Pid } });
            own.OwnNamespaces.Add("pid");
            Assert.Equal(CheckVerdict.Skipped, Worst(PidCheck.Run(own, new ProcessOptions(), ProcFileSystem.Host, CancellationToken.None)));
        }
        finally
        {
            // It has left the tree that the program's end takes along.
            using var process = Phaul.Native.ProcessDescriptor.Open(follower);
            process.SendSignal(Phaul.Native.Libc.SignalKill);
        }
    }

    [Fact]
    public void KnowsFreePidsAndTheLimit()
    {
        using var fake = new FakeProc();
        fake.Write("sys/kernel/pid_max", "32768\n");
        fake.AddProcess(100, parent: 1, group: 90, session: 80);

        Assert.Empty(PidCheck.Run(OfPids(200, 201), new ProcessOptions(), fake.Proc, CancellationToken.None));
        Assert.Contains("pids end at 32767", Assert.Single(
            PidCheck.Run(OfPids(32768), new ProcessOptions(), fake.Proc, CancellationToken.None)).Message, StringComparison.Ordinal);
        Assert.Contains("the process group of process 100", Assert.Single(
            PidCheck.Run(OfPids(90), new ProcessOptions(), fake.Proc, CancellationToken.None)).Message, StringComparison.Ordinal);
        Assert.Contains("the session of process 100", Assert.Single(
            PidCheck.Run(OfPids(80), new ProcessOptions(), fake.Proc, CancellationToken.None)).Message, StringComparison.Ordinal);

        var job = OfPids(200);
        job.Members[0].SessionId = 80; // the shell's, which is replaced for a shell job
        Assert.Single(PidCheck.Run(job, new ProcessOptions(), fake.Proc, CancellationToken.None));
        Assert.Empty(PidCheck.Run(job, new ProcessOptions { ShellJob = true }, fake.Proc, CancellationToken.None));
    }

    [Fact]
    public void FindsFilesThatAreMissingOrDiffer()
    {
        string path = Path.Combine(_directory.FullName, "file");
        File.WriteAllText(path, "same");
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        var same = new SurveyedFile
        {
            Path = path,
            Kind = Kind.ReadOnly,
            Size = 4,
            Mode = 0x8180,
            Sha256 = ByteString.CopyFrom(System.Security.Cryptography.SHA256.HashData("same"u8)),
        };
        AssertPassed(same);
        AssertFailed(With(file => file.Path += "-not-here"), "is missing here");
        AssertFailed(With(file => file.Sha256 = ByteString.CopyFrom(System.Security.Cryptography.SHA256.HashData("else"u8))), "differs");
        AssertFailed(With(file => file.Size = 5), "has 4 bytes here and 5 on the source");
        AssertFailed(With(file => file.Size = 3), "has 4 bytes here and 3 on the source");
        AssertFailed(With(file => file.Mode = 0x81A4), "permissions 0600 here and 0644 on the source",
            "--skip-file-rwx-check / -SkipFileRwxCheck");
        AssertPassed(With(file => file.Mode = 0x81A4), new ProcessOptions { SkipFileRwxCheck = true });
        AssertFailed(With(file => (file.Kind, file.Mode) = (Kind.Directory, 0x41C0)), "a regular file here and a directory on the source");
        AssertFailed(With(file => file.Path = "relative"), "no absolute path");
        AssertFailed(With(file => file.Path = "/with\0zero"), "no absolute path");

        // Written files may change until the tree is frozen; one that only grows by appending is not compared.
        AssertPassed(With(file => (file.Kind, file.Sha256) = (Kind.Writable, ByteString.Empty)));
        AssertFailed(With(file => (file.Kind, file.Size) = (Kind.Writable, 5)), "has 4 bytes here and 5 on the source");
        Assert.Equal(CheckVerdict.Warning, Verdict(With(file => (file.Kind, file.Size) = (Kind.Writable, 3)), new ProcessOptions()));
        AssertPassed(With(file => (file.Kind, file.Size, file.IsLog) = (Kind.Writable, 5, true)));

        // Below another root, and not at all where the resource is external or the root is not known.
        AssertPassed(With(file => file.Path = "/file"), new ProcessOptions { Root = _directory.FullName });
        AssertFailed(With(file => file.Path = "/other"), "is missing here",
            options: new ProcessOptions { Root = _directory.FullName + "/" });
        AssertPassed(With(file => file.Path = "/a"), new ProcessOptions { External = ["file[/a]:key"] });
        var own = Survey();
        own.Files.Add(With(file => file.Path += "-not-here"));
        own.OwnNamespaces.Add("mnt");
        Assert.Equal(CheckVerdict.Skipped, Worst(FileCheck.Run(own, new ProcessOptions(), CancellationToken.None)));

        SurveyedFile With(Action<SurveyedFile> change)
        {
            var file = same.Clone();
            change(file);
            return file;
        }

        static void AssertPassed(SurveyedFile file, ProcessOptions? options = null) =>
            Assert.Equal(CheckVerdict.Passed, Verdict(file, options ?? new ProcessOptions()));

        static void AssertFailed(SurveyedFile file, string message, string? remedy = null, ProcessOptions? options = null)
        {
            var finding = Assert.Single(Findings(file, options ?? new ProcessOptions()), finding => finding.Verdict == CheckVerdict.Failed);
            Assert.Contains(message, finding.Message, StringComparison.Ordinal);
            if (remedy is not null) Assert.Contains(remedy, finding.Remedy, StringComparison.Ordinal);
        }

        static CheckVerdict Verdict(SurveyedFile file, ProcessOptions options) => Worst(Findings(file, options));

        static List<Finding> Findings(SurveyedFile file, ProcessOptions options)
        {
            var survey = Survey();
            survey.Files.Add(file);
            return [.. FileCheck.Run(survey, options, CancellationToken.None)];
        }
    }

    [Theory]
    [InlineData(40101, 4, 1, CheckVerdict.Passed)]
    [InlineData(40101, 4, 2, CheckVerdict.Failed)]
    [InlineData(40200, 4, 1, CheckVerdict.Failed)]
    [InlineData(40201, 4, 2, CheckVerdict.Passed)]
    [InlineData(0, 4, 2, CheckVerdict.Skipped)]
    public void ComparesPageServerFormats(uint source, int major, int minor, CheckVerdict verdict)
    {
        var survey = Survey();
        survey.CriuVersion = source;
        Assert.Equal(verdict,
            Worst(HostChecks.PageServerFormat(survey, new CriuFacts("criu") { Version = new CriuVersion(major, minor) })));
    }

    [Fact]
    public void ComparesHosts()
    {
        var here = new HostFacts("x86_64", 4096, "6.18.0", "Model B", ["fpu", "sse2", "avx2"]);
        var survey = Survey();
        (survey.Architecture, survey.PageSize, survey.CpuModel) = ("x86_64", 4096, "Model A");
        survey.CpuFlags.AddRange(["fpu", "sse2", "ibrs"]);
        Assert.Empty(HostChecks.Architecture(survey, here));
        Assert.Empty(HostChecks.PageSize(survey, here));
        Assert.Empty(HostChecks.Cpu(survey, here)); // no program can notice ibrs

        survey.CpuFlags.Add("avx512f");
        AssertFailed(HostChecks.Cpu(survey, here), "destination", "Model B", "Model A", "may use: avx512f.");
        (survey.Architecture, survey.PageSize) = ("aarch64", 65536);
        AssertFailed(HostChecks.Architecture(survey, here), "architecture", "aarch64");
        AssertFailed(HostChecks.PageSize(survey, here), "page size", "65536");
        Assert.Equal(CheckVerdict.Skipped, Worst(HostChecks.Cpu(survey, here)));
        Assert.NotEmpty(HostFacts.Read(ProcFileSystem.Host).CpuFlags);
    }

    [Fact]
    public void FindsTooLittleSpaceAndMemory()
    {
        string work = Path.Combine(_directory.FullName, "not", "there", "yet");
        var survey = Survey();
        survey.MemoryBytes = 1 << 20;
        Assert.Equal(CheckVerdict.Passed, Worst(HostChecks.Space(survey, work, 0, MigrationMode.PreCopy)));
        AssertFailed(HostChecks.Space(survey, work, long.MaxValue, MigrationMode.StopAndCopy), "--work-directory / -WorkDirectory",
            _directory.FullName);
        (survey.MemoryBytes, survey.ImageBytes) = (ulong.MaxValue, ulong.MaxValue); // what a peer says must not wrap around
        AssertFailed(HostChecks.Space(survey, work, 1, MigrationMode.StopAndCopy), "--work-directory / -WorkDirectory");

        using var fake = new FakeProc();
        fake.Write(
            "meminfo",
            "MemTotal:  2048 kB\nMemAvailable:  1024 kB\nSwapFree:  512 kB\nSwapTotal:  512 kB\nCommitLimit:   1000 kB\n"
            + "Committed_AS:  900 kB\n");
        fake.Write("sys/vm/overcommit_memory", "0\n");
        Assert.Equal(CheckVerdict.Passed, Memory(1 << 20, 1 << 20));
        Assert.Equal(CheckVerdict.Warning, Memory((1 << 20) + 1, 0));
        Assert.Equal(CheckVerdict.Failed, Memory((1 << 20) + (512 << 10) + 1, 0));
        Assert.Equal(CheckVerdict.Warning, Memory(0, 1L << 38));
        fake.Write("sys/vm/overcommit_memory", "1\n");
        Assert.Equal(CheckVerdict.Passed, Memory(0, 1L << 38));
        fake.Write("sys/vm/overcommit_memory", "2\n");
        Assert.Equal(CheckVerdict.Warning, Memory(0, 101 << 10));

        CheckVerdict Memory(long bytes, long largest)
        {
            var tree = Survey();
            (tree.MemoryBytes, tree.LargestMapping) = ((ulong)bytes, (ulong)largest);
            return Worst(HostChecks.Memory(tree, fake.Proc));
        }
    }

    [Fact]
    public void FindsPortsInUseAndForeignAddresses()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        socket.Listen();
        int port = ((IPEndPoint)socket.LocalEndPoint!).Port;

        AssertFailed(NetworkChecks.Ports(OfPort("tcp", IPAddress.Loopback), ProcFileSystem.Host), "Stop what listens there",
            $"127.0.0.1:{port}");
        AssertFailed(NetworkChecks.Ports(OfPort("tcp", IPAddress.Any), ProcFileSystem.Host), "Stop what listens there", $"0.0.0.0:{port}");
        Assert.Empty(NetworkChecks.Ports(OfPort("tcp", IPAddress.Parse("127.9.9.9")), ProcFileSystem.Host));
        Assert.Empty(NetworkChecks.Ports(OfPort("udp", IPAddress.Loopback), ProcFileSystem.Host));
        var own = OfPort("tcp", IPAddress.Loopback);
        own.OwnNamespaces.Add("net");
        Assert.Equal(CheckVerdict.Skipped, Worst(NetworkChecks.Ports(own, ProcFileSystem.Host)));
        var garbage = OfPort("tcp", IPAddress.Loopback);
        garbage.ListeningPorts[0].Address = ByteString.CopyFrom(1, 2, 3);
        Assert.Empty(NetworkChecks.Ports(garbage, ProcFileSystem.Host));

        var connected = Survey();
        connected.ConnectedAddresses.Add(ByteString.CopyFrom(192, 0, 2, 1));
        var options = new ProcessOptions { TcpEstablished = true };
        Assert.Empty(NetworkChecks.Addresses(connected, options, new HashSet<IPAddress> { IPAddress.Parse("192.0.2.1") }));
        var finding = Assert.Single(NetworkChecks.Addresses(connected, options, NetworkChecks.OwnAddresses()));
        Assert.Equal(CheckVerdict.Warning, finding.Verdict);
        Assert.Contains("192.0.2.1", finding.Message, StringComparison.Ordinal);
        Assert.Contains(IPAddress.Loopback, NetworkChecks.OwnAddresses());

        TreeSurvey OfPort(string protocol, IPAddress address)
        {
            var survey = Survey();
            survey.ListeningPorts.Add(
                new SurveyedPort { Protocol = protocol, Address = ByteString.CopyFrom(address.GetAddressBytes()), Port = (uint)port });
            return survey;
        }
    }

    [SkippableFact]
    public async Task AllChecksAreMadeOfAnEmptyOrHostileSurvey()
    {
        var hostile = new TreeSurvey
        {
            MemoryBytes = ulong.MaxValue,
            ImageBytes = ulong.MaxValue,
            LargestMapping = ulong.MaxValue,
            CriuVersion = uint.MaxValue,
            RootPid = -1,
            Members = { new SurveyedProcess { Pid = int.MinValue, ThreadIds = { -1, 0, int.MaxValue } } },
            Files =
            {
                new SurveyedFile { Path = "" },
                new SurveyedFile { Path = "/../../dev/zero", Size = ulong.MaxValue, Sha256 = ByteString.CopyFrom(1) },
            },
            ListeningPorts = { new SurveyedPort { Port = uint.MaxValue, Protocol = "tcp", Address = ByteString.CopyFrom(0, 0, 0, 0) } },
        };
        foreach (var survey in new[] { new TreeSurvey(), hostile })
        {
            var results = await DestinationChecks.RunAsync(
                survey, new ProcessOptions(), _directory.FullName, 0, MigrationMode.StopAndCopy, ProcFileSystem.Host,
                Task.FromResult(Criu42),
                CheckList.DefaultLimit, CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60));
            Assert.Equal(
                ["CriuPresent", "CriuVersion", "CriuCheck", "PageServerFormat", "LazyPages", "Architecture", "PageSize", "Cpu", "Capabilities",
                    "FreePids", "Files",
                    "Space", "Memory", "Ports", "Addresses"],
                results.Select(result => result.Name));
            Assert.All(results, result => Assert.DoesNotContain("could not be checked", result.Message, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task SaysSoWhereThereIsNoCriu()
    {
        var results = await DestinationChecks.RunAsync(
            new TreeSurvey(), new DestinationServerOptions { CriuPath = Path.Combine(_directory.FullName, "criu") }, new ProcessOptions(),
            _directory.FullName, MigrationMode.StopAndCopy);
        var present = results.Single(result => result.Name == "CriuPresent");
        Assert.Equal((CheckVerdict.Failed, MigrationSide.Destination), (present.Verdict, present.Side));
        Assert.Contains("There is no criu here", present.Message, StringComparison.Ordinal);
    }

    private static async Task<TreeSurvey> SurveyAsync(PythonProgram program) =>
        TreeSurveyor.Survey(
            await TreeInspector.InspectAsync(ProcessTree.Capture(program.Pid), CancellationToken.None), ProcFileSystem.Host,
            CancellationToken.None);

    private static TreeSurvey Survey() => new();

    private static TreeSurvey OfPids(params int[] pids)
    {
        var survey = Survey();
        survey.Members.AddRange(pids.Select(pid => new SurveyedProcess { Pid = pid, ThreadIds = { pid } }));
        return survey;
    }

    private static List<Finding> CheckPids(int pid) =>
        [.. PidCheck.Run(OfPids(pid), new ProcessOptions(), ProcFileSystem.Host, CancellationToken.None)];

    private static CheckVerdict Worst(IEnumerable<Finding> findings)
    {
        var verdicts = findings.Select(finding => finding.Verdict).ToHashSet();
        return verdicts.Contains(CheckVerdict.Failed) ? CheckVerdict.Failed
            : verdicts.Contains(CheckVerdict.Warning) ? CheckVerdict.Warning
            : verdicts.Contains(CheckVerdict.Skipped) ? CheckVerdict.Skipped
            : CheckVerdict.Passed;
    }

    private static void AssertFailed(IEnumerable<Finding> findings, string remedy, params string[] says)
    {
        var finding = findings.First(finding => finding.Verdict == CheckVerdict.Failed);
        Assert.Contains(remedy, finding.Remedy, StringComparison.Ordinal);
        Assert.All(says, words => Assert.Contains(words, finding.Message, StringComparison.Ordinal));
    }
}
