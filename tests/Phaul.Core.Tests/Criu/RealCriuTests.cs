// The client against the real CRIU: dump, restore, notifications held and refused, page servers.
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Images;
using Phaul.Native;

namespace Phaul.Tests.Criu;

[Collection(nameof(RealCriuCollection))]
public sealed class RealCriuTests(RealCriu real) : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);

    private readonly DirectoryInfo _images = Directory.CreateTempSubdirectory("phaul-images-");

    public void Dispose() => _images.Delete(recursive: true);

    [SkippableFact]
    public async Task Tells_version_and_features_on_one_session()
    {
        await using var criu = Client();
        await criu.OpenAsync();
        var version = await criu.GetVersionAsync();
        Assert.True(version.IsAtLeast(4), version.ToString());
        var features = await criu.CheckFeaturesAsync();
        Assert.True(features.HasMemTrack && features.HasLazyPages && features.HasPidfdStore);
        await criu.CheckAsync();
        Assert.Equal(version, await criu.GetVersionAsync());
    }

    [SkippableFact]
    public async Task Dumps_and_restores_a_process_that_counts_on()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        var seen = new List<CriuNotificationKind>();
        using (var directory = DirectoryDescriptor.Open(_images.FullName))
        {
            await criu.DumpAsync(Options(directory, program.Pid), Recording(seen)).WaitAsync(Failsafe);
        }
        Assert.Equal(Libc.SignalKill, (await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe)).Signal);
        Assert.Equal(CriuNotificationKind.PreDump, seen[0]);
        Assert.Contains(CriuNotificationKind.PostDump, seen);
        var statistics = CriuStatistics.ReadDump(_images.FullName);
        Assert.True(statistics.PagesWritten > 0 && statistics.FrozenTime > TimeSpan.Zero, statistics.ToString());

        var counted = program.Count;
        seen.Clear();
        using (var directory = DirectoryDescriptor.Open(_images.FullName))
        {
            Assert.Equal(program.Pid, await criu.RestoreAsync(Options(directory), Recording(seen)).WaitAsync(Failsafe));
        }
        await program.SeeItCountAsync();
        Assert.True(program.Count > counted);
        Assert.Contains(CriuNotificationKind.PostRestore, seen);
        Assert.True(CriuStatistics.ReadRestore(_images.FullName).PagesRestored > 0);
    }

    [SkippableFact]
    public async Task A_dump_refused_at_post_dump_leaves_the_process_running()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.DumpAsync(
            Options(directory, program.Pid),
            new CriuNotifications((notification, _) => Task.FromResult(notification.Kind != CriuNotificationKind.PostDump))));
        Assert.Equal((CriuFailure.Refused, CriuRequestKind.Dump), (exception.Kind, exception.Request));
        Assert.NotEmpty(exception.LogTail);
        Assert.Contains("Error (", exception.LogTail[0], StringComparison.Ordinal);
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task What_a_handler_throws_comes_out_and_the_process_runs_on()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        var thrown = await Assert.ThrowsAsync<TimeZoneNotFoundException>(() => criu.DumpAsync(
            Options(directory, program.Pid),
            CriuNotifications.At(CriuNotificationKind.PostDump, (_, _) => throw new TimeZoneNotFoundException("mine"))));
        Assert.Equal("mine", thrown.Message);
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task A_dump_cancelled_while_held_leaves_the_process_running()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        using var cancel = new CancellationTokenSource();
        var dump = criu.DumpAsync(
            Options(directory, program.Pid),
            CriuNotifications.At(CriuNotificationKind.PostDump, async (_, token) =>
            {
                await cancel.CancelAsync();
                await Task.Delay(Timeout.Infinite, token);
            }),
            cancel.Token);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => dump.WaitAsync(Failsafe));
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task A_dump_cancelled_while_its_memory_goes_nowhere_leaves_the_process_running()
    {
        var (sending, stalled) = SocketPair.CreateStream(4096);
        var criu = Client(sending);
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        using var cancel = new CancellationTokenSource();
        var options = Options(directory, program.Pid);
        options.Ps = new PageServerInfo { Fd = criu.MemoryDescriptor };
        var dump = criu.DumpAsync(options, cancellationToken: cancel.Token);
        await DescriptorWaiter.WaitReadableAsync(stalled.SafeHandle, default).WaitAsync(Failsafe);
        var counted = program.Count;
        Assert.False(dump.IsCompleted);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => dump.WaitAsync(Failsafe));
        await program.SeeItCountAsync();
        Assert.True(program.Count > counted);
        await criu.DisposeAsync();
        sending.Dispose();
        stalled.Dispose();
    }

    [SkippableFact]
    public async Task A_criu_that_is_stopped_in_a_restore_is_killed_with_what_it_had_made()
    {
        await using var criu = new CriuClient(new CriuClientOptions
        {
            CriuPath = real.Require(),
            EndTimeout = TimeSpan.FromMilliseconds(300),
        });
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.DumpAsync(Options(directory, program.Pid)).WaitAsync(Failsafe);
        await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe);
        ProcessDescriptor? restored = null;
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.RestoreAsync(
            Options(directory),
            new CriuNotifications((notification, _) =>
            {
                if (notification.Kind != CriuNotificationKind.PostRestore) return Task.FromResult(true);
                restored = ProcessDescriptor.Open(notification.Pid!.Value);
                Libc.Check(Libc.Kill(Processes.ParentOf(notification.Pid!.Value), Libc.SignalStop), "kill");
                return Task.FromResult(false);
            })).WaitAsync(Failsafe));
        Assert.Equal(CriuFailure.Hung, exception.Kind);
        Assert.True(restored!.HasExited);
        restored.Dispose();
    }

    [SkippableFact]
    public async Task The_answer_of_a_handler_counts_more_than_the_token()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        using var cancel = new CancellationTokenSource();
        await criu.DumpAsync(
            Options(directory, program.Pid),
            CriuNotifications.At(CriuNotificationKind.PostDump, (_, _) => cancel.CancelAsync()),
            cancel.Token).WaitAsync(Failsafe);
        Assert.Equal(Libc.SignalKill, (await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe)).Signal);
    }

    [SkippableFact]
    public async Task A_restore_is_held_at_post_restore_for_as_long_as_the_handler_wants()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.DumpAsync(Options(directory, program.Pid)).WaitAsync(Failsafe);
        await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe);
        var counted = program.Count;
        var held = new TaskCompletionSource<int?>(TaskCreationOptions.RunContinuationsAsynchronously);
        var release = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var restore = criu.RestoreAsync(
            Options(directory),
            CriuNotifications.At(CriuNotificationKind.PostRestore, (notification, _) =>
            {
                held.SetResult(notification.Pid);
                return release.Task;
            }));
        Assert.Equal(program.Pid, await held.Task.WaitAsync(Failsafe));
        await Task.Delay(200); // Ten of its counts, had it been running
        Assert.Equal(counted, program.Count);
        Assert.False(restore.IsCompleted);
        release.SetResult();
        Assert.Equal(program.Pid, await restore.WaitAsync(Failsafe));
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task A_restore_refused_at_post_restore_leaves_nothing()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.DumpAsync(Options(directory, program.Pid)).WaitAsync(Failsafe);
        await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe);
        var counted = program.Count;
        ProcessDescriptor? restored = null;
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.RestoreAsync(
            Options(directory),
            new CriuNotifications((notification, _) =>
            {
                if (notification.Kind != CriuNotificationKind.PostRestore) return Task.FromResult(true);
                restored = ProcessDescriptor.Open(notification.Pid!.Value);
                return Task.FromResult(false);
            })));
        Assert.Equal(CriuFailure.Refused, exception.Kind);
        Assert.True(restored!.HasExited);
        restored.Dispose();
        Assert.Equal(counted, program.Count);
    }

    [SkippableFact]
    public async Task A_criu_killed_while_a_restore_is_held_tells_the_handler_and_the_tree_is_gone()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.DumpAsync(Options(directory, program.Pid)).WaitAsync(Failsafe);
        await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe);
        ProcessDescriptor? restored = null;
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.RestoreAsync(
            Options(directory),
            CriuNotifications.At(CriuNotificationKind.PostRestore, async (notification, token) =>
            {
                restored = ProcessDescriptor.Open(notification.Pid!.Value);
                Libc.Check(Libc.Kill(Processes.ParentOf(notification.Pid!.Value), Libc.SignalKill), "kill");
                await Task.Delay(Timeout.Infinite, token);
            })).WaitAsync(Failsafe));
        Assert.Equal((CriuFailure.Died, Libc.SignalKill), (exception.Kind, exception.ExitStatus?.Signal));
        Assert.IsAssignableFrom<OperationCanceledException>(exception.InnerException);
        Assert.True(restored!.HasExited);
        restored.Dispose();
    }

    [SkippableFact]
    public async Task A_criu_killed_while_a_dump_is_held_tells_the_handler_and_the_process_runs_on()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.DumpAsync(
            Options(directory, program.Pid),
            CriuNotifications.At(CriuNotificationKind.PostDump, async (_, token) =>
            {
                var mine = Processes.ChildrenOf(Environment.ProcessId);
                foreach (var child in mine.Where(child => child != program.Pid && Processes.IsCriu(child)))
                    Libc.Check(Libc.Kill(child, Libc.SignalKill), "kill");
                await Task.Delay(Timeout.Infinite, token);
            })).WaitAsync(Failsafe));
        Assert.Equal((CriuFailure.Died, Libc.SignalKill), (exception.Kind, exception.ExitStatus?.Signal));
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task A_dump_of_no_process_says_why_in_one_exception()
    {
        await using var criu = Client();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        var options = Options(directory, int.MaxValue - 1);
        options.LogFile = "mine.log";
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.DumpAsync(options));
        Assert.Equal((CriuFailure.Refused, CriuRequestKind.Dump), (exception.Kind, exception.Request));
        Assert.Contains(exception.LogTail, line => line.Contains("Error (", StringComparison.Ordinal));
        Assert.True(File.Exists(Path.Combine(_images.FullName, "mine.log")));
        await criu.GetVersionAsync(); // and the next request starts another CRIU
    }

    [SkippableFact]
    public async Task A_descriptor_that_is_not_open_is_refused_before_CRIU_sees_it()
    {
        await using var criu = Client();
        await Assert.ThrowsAsync<ArgumentException>(() => criu.DumpAsync(new CriuOpts { Pid = 1, ImagesDirFd = 9999 }));
    }

    [SkippableFact]
    public async Task The_callers_directory_may_be_closed_once_the_request_runs()
    {
        await using var criu = Client();
        await using var program = await CountingProgram.StartAsync();
        var directory = DirectoryDescriptor.Open(_images.FullName);
        var options = Options(directory, program.Pid);
        var dump = criu.DumpAsync(options);
        directory.Dispose();
        await dump.WaitAsync(Failsafe);
        Assert.True(File.Exists(Path.Combine(_images.FullName, "inventory.img")));
    }

    [SkippableFact]
    public async Task Memory_goes_through_the_inherited_socket_to_a_page_server_that_ends_well()
    {
        var (sending, receiving) = SocketPair.CreateStream();
        var source = Client(sending);
        await using var destination = Client(receiving);
        await using var program = await CountingProgram.StartAsync();
        var sent = _images.CreateSubdirectory("sent");
        var received = _images.CreateSubdirectory("received");
        using var sentDirectory = DirectoryDescriptor.Open(sent.FullName);
        using var receivedDirectory = DirectoryDescriptor.Open(received.FullName);

        var serverOptions = Options(receivedDirectory);
        serverOptions.Ps = new PageServerInfo { Fd = destination.MemoryDescriptor };
        await using var server = await destination.StartPageServerAsync(serverOptions);
        Assert.True(server.Pid > 0);
        Assert.NotNull(await destination.GetVersionAsync()); // on a CRIU of its own, while the page server lives

        var dumpOptions = Options(sentDirectory, program.Pid);
        dumpOptions.Ps = new PageServerInfo { Fd = source.MemoryDescriptor };
        await source.DumpAsync(dumpOptions).WaitAsync(Failsafe);
        var status = await destination.WaitPidAsync(server.Pid).WaitAsync(Failsafe);
        Assert.True(status.IsSuccess, status.ToString());
        Assert.Equal(status, await server.WaitForExitAsync().WaitAsync(Failsafe));
        Assert.True(received.GetFiles("pages-*.img").Sum(file => file.Length) > 0);
        Assert.Empty(sent.GetFiles("pages-*.img"));
        await source.DisposeAsync();
        sending.Dispose();
        receiving.Dispose();
    }

    [SkippableFact]
    public async Task A_page_server_that_nobody_comes_to_ends_with_its_owner()
    {
        var criu = Client();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        var options = Options(directory);
        options.Ps = new PageServerInfo { Address = "127.0.0.1", Port = 0 };
        var server = await criu.StartPageServerAsync(options);
        using var process = ProcessDescriptor.Open(server.Pid);
        using var patience = new CancellationTokenSource();
        var wait = server.WaitForExitAsync(patience.Token);
        Assert.False(wait.IsCompleted);
        await patience.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
        Assert.False(process.HasExited); // giving up the wait is not giving up the server
        await criu.DisposeAsync();
        await process.WaitForExitAsync(default).WaitAsync(Failsafe);
    }

    [SkippableFact]
    public async Task Waiting_for_a_process_that_is_not_CRIUs_fails()
    {
        await using var criu = Client();
        var exception = await Assert.ThrowsAsync<CriuException>(() => criu.WaitPidAsync(1).WaitAsync(Failsafe));
        Assert.Equal((CriuFailure.Refused, CriuRequestKind.WaitPid), (exception.Kind, exception.Request));
    }

    [SkippableFact]
    public async Task The_processor_can_be_described_and_compared()
    {
        await using var criu = Client();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.CpuInfoDumpAsync(Options(directory));
        Assert.True(File.Exists(Path.Combine(_images.FullName, "cpuinfo.img")));
        await criu.CpuInfoCheckAsync(Options(directory));
    }

    [SkippableFact]
    public async Task A_service_is_driven_over_its_socket()
    {
        var path = real.Require();
        var socket = Path.Combine(_images.FullName, "service.socket");
        await using var service = ChildProcess.Start(new ProcessStart
        {
            File = path,
            Arguments = ["service", "--address", socket, "-W", _images.FullName],
        });
        using var failsafe = new CancellationTokenSource(Failsafe);
        while (!File.Exists(socket)) await Task.Delay(5, failsafe.Token);
        await using var criu = new CriuClient(new CriuClientOptions { ServiceSocketPath = socket });
        while (true)
        {
            try
            {
                Assert.True((await criu.GetVersionAsync(failsafe.Token)).IsAtLeast(4));
                break;
            }
            catch (CriuException exception) when (exception.Kind == CriuFailure.NotFound)
            {
                await Task.Delay(5, failsafe.Token); // bound, and not listening yet
            }
        }
        await using var program = await CountingProgram.StartAsync();
        using var directory = DirectoryDescriptor.Open(_images.FullName);
        await criu.DumpAsync(Options(directory, program.Pid)).WaitAsync(Failsafe);
        await program.Child.WaitForExitAsync(default).WaitAsync(Failsafe);
        Assert.Equal(program.Pid, await criu.RestoreAsync(Options(directory)).WaitAsync(Failsafe));
        await program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task A_pre_dump_shares_its_session_with_the_dump_where_the_kernel_tracks_memory()
    {
        await using var criu = Client();
        Skip.IfNot((await criu.CheckFeaturesAsync()).MemTrack, "This kernel does not track dirty memory.");
        await using var program = await CountingProgram.StartAsync();
        var first = _images.CreateSubdirectory("1");
        var second = _images.CreateSubdirectory("2");
        using (var directory = DirectoryDescriptor.Open(first.FullName))
        {
            var options = Options(directory, program.Pid);
            options.TrackMem = true;
            await criu.PreDumpAsync(options).WaitAsync(Failsafe);
        }
        await program.SeeItCountAsync();
        using (var directory = DirectoryDescriptor.Open(second.FullName))
        {
            var options = Options(directory, program.Pid);
            (options.TrackMem, options.ParentImg) = (true, "../1");
            await criu.DumpAsync(options).WaitAsync(Failsafe);
        }
        Assert.True(CriuStatistics.ReadDump(second.FullName).PagesSkippedParent > 0);
    }

    private static CriuOpts Options(Microsoft.Win32.SafeHandles.SafeFileHandle directory, int? pid = null)
    {
        var options = new CriuOpts
        {
            ImagesDirFd = DirectoryDescriptor.Number(directory),
            LogLevel = 4,
            ManageCgroupsMode = CriuCgroupMode.Ignore,
        };
        if (pid is { } root) options.Pid = root;
        return options;
    }

    private static CriuNotifications Recording(List<CriuNotificationKind> seen) => new((notification, _) =>
    {
        seen.Add(notification.Kind);
        return Task.FromResult(true);
    });

    private CriuClient Client(System.Net.Sockets.Socket? memory = null) =>
        new(new CriuClientOptions { CriuPath = real.Require(), MemorySocket = memory });
}
