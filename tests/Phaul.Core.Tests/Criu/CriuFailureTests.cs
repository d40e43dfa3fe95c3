// A CRIU that is absent, dies, hangs or talks nonsense gives one exception that says so.
using System.Globalization;
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Tests.Criu;

public sealed class CriuFailureTests : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(1);

    private readonly FakeCriu _fake = new();

    public void Dispose() => _fake.Dispose();

    [Theory]
    [InlineData("/nonexistent/criu")]
    [InlineData("no-such-criu-in-path")]
    [InlineData("/etc/passwd")]
    [InlineData("/etc/passwd/criu")]
    public async Task One_that_is_absent_or_no_program(string path)
    {
        await using var criu = new CriuClient(new CriuClientOptions { CriuPath = path });
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.GetVersionAsync());
        Assert.Equal((CriuFailure.NotFound, CriuRequestKind.Version), (exception.Kind, exception.Request));
        Assert.Contains(path, exception.Message, StringComparison.Ordinal);
        Assert.IsType<NativeException>(exception.InnerException);
    }

    [Fact]
    public async Task A_service_that_nobody_offers()
    {
        await using var criu = new CriuClient(new CriuClientOptions { ServiceSocketPath = "/nonexistent/socket" });
        Assert.Equal(CriuFailure.NotFound, (await Assert.ThrowsAsync<CriuException>(() => criu.GetVersionAsync())).Kind);
    }

    [Fact]
    public async Task One_that_cannot_load_says_what_it_wrote_to_standard_error()
    {
        _fake.Do("echo 'criu: error while loading shared libraries: libnet.so.9' >&2; exit 127").Build();
        var exception = await FailAsync(criu => criu.GetVersionAsync());
        Assert.Equal((CriuFailure.Died, 127), (exception.Kind, exception.ExitStatus?.ExitCode));
        Assert.Contains(exception.LogTail, line => line.Contains("libnet.so.9", StringComparison.Ordinal));
        Assert.Contains("libnet.so.9", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_is_killed_before_it_answers()
    {
        _fake.Receive().Do("kill -SEGV $$").Build();
        var exception = await FailAsync(criu => criu.CheckFeaturesAsync());
        Assert.Equal((CriuFailure.Died, 11), (exception.Kind, exception.ExitStatus?.Signal));
    }

    [Fact]
    public async Task One_whose_child_keeps_the_socket_open_after_its_death()
    {
        _fake.Receive().Do("(exec 2>&- 1>&-; read -t 60 <> <(:)) & echo $! >\"$(dirname \"$0\")/child\"; kill -KILL $$").Build();
        var exception = await FailAsync(criu => criu.CheckFeaturesAsync());
        Assert.Equal((CriuFailure.Died, 9), (exception.Kind, exception.ExitStatus?.Signal));
        Libc.Check(Libc.Kill(WrittenPid("child"), Libc.SignalKill), "kill");
    }

    [Fact]
    public async Task One_that_answers_and_exits_at_once_has_answered()
    {
        _fake.Receive().Send(FakeCriu.Version).Build();
        await using var criu = Client();
        Assert.Equal("4.2.1", (await criu.GetVersionAsync()).ToString());
    }

    [Fact]
    public async Task One_that_hangs_is_ended()
    {
        _fake.Do("echo $$ >\"$(dirname \"$0\")/pid\"").Receive().Do("exec sleep 600").Build();
        var exception = await FailAsync(criu => criu.GetVersionAsync(), Soon);
        Assert.Equal(CriuFailure.Hung, exception.Kind);
        AssertGone();
    }

    [Fact]
    public async Task One_that_hangs_in_a_dump_is_given_the_time_to_undo_it_and_then_ended()
    {
        _fake.Do("echo $$ >\"$(dirname \"$0\")/pid\"").Receive().Do("exec sleep 600").Build();
        var exception = await FailAsync(criu => criu.DumpAsync(new CriuOpts { ImagesDir = "/tmp" }), Soon);
        Assert.Equal(CriuFailure.Hung, exception.Kind);
        AssertGone();
    }

    [Fact]
    public async Task One_that_is_slow_in_a_dump_loses_its_memory_socket_and_is_refused_at_its_next_notification()
    {
        // It goes on only when its memory socket has ended, which is what giving up does first.
        _fake.Receive().Do("cat <&4 >/dev/null").Send(Notify("post-dump")).Receive("answer").Send(Failed(CriuRequestKind.Dump)).Build();
        var (memory, peer) = SocketPair.CreateStream();
        await using (var criu = new CriuClient(new CriuClientOptions
        {
            CriuPath = _fake.Path,
            MemorySocket = memory,
            RequestTimeout = Soon,
            EndTimeout = Failsafe,
        }))
        {
            var options = new CriuOpts { ImagesDir = "/tmp", Ps = new PageServerInfo { Fd = criu.MemoryDescriptor } };
            var exception = await Assert.ThrowsAsync<CriuException>(() => criu.DumpAsync(options).WaitAsync(Failsafe));
            Assert.Equal(CriuFailure.Hung, exception.Kind);
        }
        Assert.False(_fake.Received("answer").NotifySuccess);
        memory.Dispose();
        peer.Dispose();
    }

    [Fact]
    public async Task The_time_for_which_a_handler_holds_does_not_count()
    {
        _fake.Receive().Send(Notify("post-dump")).Receive("answer")
            .Send(new CriuResponse { Type = CriuRequestKind.Dump, Success = true }).Build();
        await using var criu = Client(TimeSpan.FromSeconds(4));
        await criu.DumpAsync(
            new CriuOpts { ImagesDir = "/tmp" },
            CriuNotifications.At(CriuNotificationKind.PostDump, (_, token) => Task.Delay(TimeSpan.FromSeconds(4.5), token)));
        Assert.True(_fake.Received("answer").NotifySuccess);
    }

    [Theory]
    [InlineData(new byte[] { 0xff, 0xff, 0xff })]
    [InlineData(new byte[] { 0x08, 0x01 })] // a type, and no success
    [InlineData(new byte[] { 0x68, 0x65, 0x6c, 0x6c, 0x6f })]
    public async Task One_that_sends_what_is_no_message(byte[] message)
    {
        _fake.Receive().SendBytes(message).Do("exec sleep 600").Build();
        Assert.Equal(CriuFailure.Garbage, (await FailAsync(criu => criu.GetVersionAsync())).Kind);
    }

    [Fact]
    public async Task One_that_sends_too_much()
    {
        _fake.Receive().Do("dd if=/dev/zero bs=100K count=1 >&3 2>/dev/null; exec sleep 600").Build();
        var exception = await FailAsync(criu => criu.GetVersionAsync());
        Assert.Equal(CriuFailure.Garbage, exception.Kind);
        Assert.Contains("102400", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_answers_another_question()
    {
        _fake.Receive().Send(new CriuResponse { Type = CriuRequestKind.Restore, Success = true }).Build();
        Assert.Equal(CriuFailure.Garbage, (await FailAsync(criu => criu.GetVersionAsync())).Kind);
    }

    [Fact]
    public async Task One_that_answers_without_what_was_asked_for()
    {
        _fake.Receive().Send(new CriuResponse { Type = CriuRequestKind.Restore, Success = true }).Build();
        var exception = await FailAsync(criu => criu.RestoreAsync(new CriuOpts { ImagesDir = "/tmp" }));
        Assert.Equal((CriuFailure.Garbage, CriuRequestKind.Restore), (exception.Kind, exception.Request));
    }

    [Fact]
    public async Task A_refusal_carries_errno_message_and_the_errors_of_the_log()
    {
        var images = Directory.CreateTempSubdirectory("phaul-log-");
        using var directory = DirectoryDescriptor.Open(images.FullName);
        File.WriteAllLines(
            Path.Combine(images.FullName, "dump.log"),
            [.. Enumerable.Range(0, 500).Select(i => $"(0.{i:D6}) Fine"), "(00.5) Error (criu/x.c:1): It is broken", "(00.6) Bye"]);
        var refusal = Failed(CriuRequestKind.Dump);
        (refusal.CrErrno, refusal.CrErrmsg) = (52, "(00.5) Error (criu/x.c:1): It is broken\n");
        _fake.Receive().Send(refusal).Build();
        var options = new CriuOpts { ImagesDirFd = DirectoryDescriptor.Number(directory), LogFile = "dump.log" };
        var exception = await FailAsync(criu => criu.DumpAsync(options));
        Assert.Equal(
            (CriuFailure.Refused, CriuRequestKind.Dump, 52, refusal.CrErrmsg),
            (exception.Kind, exception.Request, exception.Errno, exception.ErrorMessage));
        Assert.Equal(20, exception.LogTail.Count);
        Assert.Contains("It is broken", exception.LogTail[0], StringComparison.Ordinal);
        Assert.EndsWith("Bye", exception.LogTail[^1], StringComparison.Ordinal);
        images.Delete(recursive: true);
    }

    [Fact]
    public async Task A_request_that_is_too_large_for_the_socket_is_refused_here()
    {
        _fake.Receive().Do("exec sleep 600").Build();
        var options = new CriuOpts { ImagesDir = "/tmp" };
        options.External.Add(new string('x', 64 << 20));
        var exception = await FailAsync(criu => criu.DumpAsync(options), end: Soon);
        Assert.Equal(CriuFailure.Refused, exception.Kind);
    }

    [Fact]
    public async Task Cancelling_a_request_that_touches_no_tree_ends_CRIU_at_once()
    {
        _fake.Do("echo $$ >\"$(dirname \"$0\")/pid\"").Receive().Do("exec sleep 600").Build();
        await using var criu = Client();
        using var cancel = new CancellationTokenSource(Soon);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => criu.GetVersionAsync(cancel.Token).WaitAsync(Failsafe));
        AssertGone();
    }

    [Fact]
    public async Task Disposing_ends_a_request_that_runs()
    {
        _fake.Receive().Do("exec sleep 600").Build();
        var criu = Client(end: Soon);
        var request = criu.GetVersionAsync();
        await criu.DisposeAsync();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => request.WaitAsync(Failsafe));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => criu.GetVersionAsync());
    }

    [Fact]
    public async Task After_a_failure_the_next_request_starts_another()
    {
        _fake.Do("[ \"$(wc -l <\"$(dirname \"$0\")/starts\")\" = 1 ] && exit 1").Receive().Send(FakeCriu.Version).Receive().Build();
        await using var criu = Client();
        await Assert.ThrowsAsync<CriuException>(() => criu.GetVersionAsync());
        Assert.Equal(new CriuVersion(4, 2, 1), await criu.GetVersionAsync());
        Assert.Equal(2, _fake.Starts);
    }

    [Fact]
    public async Task One_that_died_while_idle_is_replaced()
    {
        _fake.Do("echo $$ >\"$(dirname \"$0\")/pid\"").Receive().Send(FakeCriu.Version).Do("exec sleep 600").Build();
        await using var criu = Client();
        await criu.GetVersionAsync();
        using (var process = ProcessDescriptor.Open(FakePid()))
        {
            process.SendSignal(Libc.SignalKill);
            await process.WaitForExitAsync(default).WaitAsync(Failsafe);
        }
        await criu.GetVersionAsync().WaitAsync(Failsafe);
        Assert.Equal(2, _fake.Starts);
    }

    [Fact]
    public async Task Pre_dumps_and_the_dump_share_a_session_and_nothing_else_does()
    {
        var preDumped = new CriuResponse { Type = CriuRequestKind.PreDump, Success = true };
        _fake.Receive("1").Send(FakeCriu.Version).Receive("2").Send(preDumped).Receive("3").Send(preDumped).Receive("4")
            .Send(new CriuResponse { Type = CriuRequestKind.Dump, Success = true }).Build();
        await using var criu = Client(end: Soon);
        var options = new CriuOpts { ImagesDir = "/tmp" };
        await criu.OpenAsync();
        await criu.PreDumpAsync(options);
        await criu.PreDumpAsync(options);
        await criu.DumpAsync(options);
        Assert.Equal(1, _fake.Starts);
        Assert.Equal(
            [CriuRequestKind.Version, CriuRequestKind.PreDump, CriuRequestKind.PreDump, CriuRequestKind.Dump],
            new[] { "1", "2", "3", "4" }.Select(name => _fake.Received(name).Type));
        Assert.Equal([true, false, false, false], new[] { "1", "2", "3", "4" }.Select(name => _fake.Received(name).KeepOpen));
        Assert.True(_fake.Received("4").Opts.NotifyScripts);

        await criu.OpenAsync();
        await criu.PreDumpAsync(options);
        Assert.Equal(2, _fake.Starts);
        await criu.GetVersionAsync(); // would be out of turn for CRIU
        Assert.Equal(3, _fake.Starts);
    }

    [Fact]
    public async Task A_handler_can_add_external_resources()
    {
        _fake.Receive().Send(Notify("query-ext-files")).Receive("answer")
            .Send(new CriuResponse { Type = CriuRequestKind.Dump, Success = true }).Build();
        await using var criu = Client();
        var adding = CriuNotifications.At(CriuNotificationKind.QueryExternalFiles, (notification, _) =>
        {
            notification.External.Add("file[8:1]");
            return Task.CompletedTask;
        });
        await criu.DumpAsync(new CriuOpts { ImagesDir = "/tmp" }, adding);
        Assert.Equal(["file[8:1]"], _fake.Received("answer").Opts.External);
        Assert.True(_fake.Received("answer").Opts.HasImagesDirFd); // without it CRIU could not read the answer
    }

    [Fact]
    public async Task Unset_options_reach_CRIU_unset()
    {
        _fake.Receive().Send(new CriuResponse { Type = CriuRequestKind.Dump, Success = true }).Build();
        await using var criu = Client();
        await criu.DumpAsync(new CriuOpts { ImagesDir = "/tmp" });
        var received = _fake.Received().Opts;
        Assert.Equal(new CriuOpts { ImagesDirFd = -1, ImagesDir = "/tmp", NotifyScripts = true }, received);
    }

    private static CriuResponse Notify(string script) =>
        new() { Type = CriuRequestKind.Notify, Success = true, Notify = new CriuNotify { Script = script } };

    private static CriuResponse Failed(CriuRequestKind kind) => new() { Type = kind, Success = false };

    private CriuClient Client(TimeSpan? request = null, TimeSpan? end = null) => new(new CriuClientOptions
    {
        CriuPath = _fake.Path,
        RequestTimeout = request ?? Failsafe,
        EndTimeout = end ?? Soon,
    });

    private async Task<CriuException> FailAsync(Func<CriuClient, Task> request, TimeSpan? timeout = null, TimeSpan? end = null)
    {
        await using var criu = Client(timeout, end);
        return await Assert.ThrowsAsync<CriuException>(() => request(criu).WaitAsync(Failsafe));
    }

    private int FakePid() => WrittenPid("pid");

    private int WrittenPid(string name) =>
        int.Parse(File.ReadAllText(Path.Combine(Path.GetDirectoryName(_fake.Path)!, name)), CultureInfo.InvariantCulture);

    private void AssertGone() => Assert.False(Directory.Exists($"/proc/{FakePid()}"), "CRIU is still there.");
}
