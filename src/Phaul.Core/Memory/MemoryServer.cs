// Gives a restored tree its memory out of the page store, in place of `criu lazy-pages`.

using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Phaul.Images.Pages;
using Phaul.Native;

namespace Phaul.Memory;

/// <summary>
/// One server for one restore: CRIU connects to it as to its own daemon and hands over a userfaultfd for each task (criu/uffd.c). Each
/// process is served by itself, also those that the tree forks meanwhile. Their descriptors are held by a process beside this one:
/// if this one is killed, the tree stands still where it lacks memory.
/// </summary>
/// <remarks>
/// CRIU's daemon cannot do this: of a chain of images it delivers the last link, and asked to fetch pages from elsewhere it uses
/// memory that it has freed when a process ends that it has asked pages for.
/// </remarks>
internal sealed class MemoryServer : ILateMemory
{
    /// <summary>Where CRIU looks for it (criu/uffd.c), in the restore's work directory.</summary>
    public const string SocketName = "lazy-pages.socket";

    /// <summary>What CRIU says last (LAZY_PAGES_RESTORE_FINISHED).</summary>
    public const int RestoreFinished = 0x52535446;

    // From one task to the next
    private static readonly TimeSpan HandOverLimit = TimeSpan.FromSeconds(5);

    private readonly Socket _listener;
    private readonly SafeFileHandle _directory;
    private readonly DescriptorHolder _holder;
    private readonly PageStore _store;
    private readonly CancellationTokenSource _disposing = new();
    private readonly TaskCompletionSource _runs = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _complete = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Task> _serving = [];
    private readonly List<(ulong Pid, LateProcess Process)> _processes = [];
    private readonly Task _receiving;
    private TaskCompletionSource _handedOver = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _tasks;
    private int _unheld;
    private int _stopped;

    private MemoryServer(Socket listener, SafeFileHandle directory, DescriptorHolder holder, PageStore store)
    {
        (_listener, _directory, _holder, _store) = (listener, directory, holder, store);
        _receiving = Task.Run(ReceiveTasksAsync, CancellationToken.None);
    }

    /// <inheritdoc/>
    public bool NeedsThisProcess => true;

    /// <inheritdoc/>
    public bool WasKilled => false;

    /// <summary>Starts it; a restore can connect to it from now on.</summary>
    /// <param name="store">The late pages.</param>
    /// <param name="workDirectory">Of the restore, where CRIU looks for the socket.</param>
    /// <param name="holder">Who holds the memory beside this process, owned by this; null: it is started.</param>
    /// <exception cref="PhaulException">RestoreFailed: the socket cannot be made, or no process started.</exception>
    public static async Task<MemoryServer> StartAsync(PageStore store, string workDirectory, DescriptorHolder? holder = null)
    {
        SafeFileHandle? directory = null;
        var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            holder ??= DescriptorHolder.Start(workDirectory);
            File.Delete(Path.Combine(workDirectory, SocketName));
            // A path by a descriptor: a socket's name may have 107 bytes, and directories be deeper
            directory = DirectoryDescriptor.Open(workDirectory);
            listener.Bind(new UnixDomainSocketEndPoint($"/proc/self/fd/{DirectoryDescriptor.Number(directory)}/{SocketName}"));
            listener.Listen(1);
            return new MemoryServer(listener, directory, holder, store);
        }
        catch (Exception exception) when (exception is NativeException or IOException or UnauthorizedAccessException or SocketException)
        {
            listener.Dispose();
            directory?.Dispose();
            if (holder is not null)
                await holder.DisposeAsync().ConfigureAwait(false);
            throw new PhaulException(PhaulErrorId.RestoreFailed, $"No memory server could be started: {exception.Message}", exception);
        }
    }

    /// <inheritdoc/>
    public async Task HoldMemoryAsync(int tasks, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        while (true)
        {
            limit.CancelAfter(HandOverLimit);
            if (_complete.Task.IsFaulted)
                await _complete.Task.ConfigureAwait(false);
            var next = Volatile.Read(ref _handedOver).Task;
            if (Volatile.Read(ref _tasks) >= tasks)
                break;
            try
            {
                await (await Task.WhenAny(next, _complete.Task).WaitAsync(limit.Token).ConfigureAwait(false)).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
            {
                throw Failed($"CRIU handed over the memory of {_tasks} tasks, where {tasks} were restored");
            }
        }

        if (Volatile.Read(ref _unheld) > 0)
            throw Failed($"The memory of {_unheld} tasks could not be held by a second process");
    }

    /// <inheritdoc/>
    public void WatchHeld()
    {
        // What it lets go of nobody else holds
    }

    /// <inheritdoc/>
    public Task WaitAsync(CancellationToken cancellationToken) => _complete.Task.WaitAsync(cancellationToken);

    /// <inheritdoc/>
    public async Task<IReadOnlyList<LackingMemory>> LackingAsync()
    {
        // Who waits for nothing in particular would wait for ever
        await _disposing.CancelAsync().ConfigureAwait(false);
        await AllServedAsync().ConfigureAwait(false);
        lock (_serving)
            return [.. _processes.SelectMany(entry => entry.Process.Lacking.All.Select(range => new LackingMemory(entry.Pid, range)))];
    }

    /// <inheritdoc/>
    public async ValueTask ReleaseAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await (_complete.Task.IsCompletedSuccessfully ? _holder.DisposeAsync() : _holder.ReleaseAsync()).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await _holder.DisposeAsync().ConfigureAwait(false);
    }

    private async Task StopAsync()
    {
        if (Interlocked.Exchange(ref _stopped, 1) == 1)
            return;
        await _disposing.CancelAsync().ConfigureAwait(false);
        // Its path goes by this descriptor, which must not be another's by then
        _listener.Dispose();
        _directory.Dispose();
        await _receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await AllServedAsync().ConfigureAwait(false);
        // Not before: while one is let go of, the others are put to the holder again
        _processes.ForEach(entry => entry.Process.Dispose());
        _complete.TrySetCanceled(CancellationToken.None);
        _disposing.Dispose();
    }

    /// <summary>Comes back when nobody is served any more.</summary>
    private async Task AllServedAsync()
    {
        // A process that forks in its last moment brings another one
        for (var ended = 0; ;)
        {
            Task[] serving;
            lock (_serving)
                serving = [.. _serving];
            if (serving.Length == ended)
                return;
            ended = serving.Length;
            await Task.WhenAll(serving).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>CRIU's side of it: for each task its pid and its userfaultfd, or the pid of a zombie, negative; then that all is restored.</summary>
    private async Task ReceiveTasksAsync()
    {
        try
        {
            using var connection = await _listener.AcceptAsync(_disposing.Token).ConfigureAwait(false);
            using var criu = new PacketSocket(new SafeFileHandle(connection.Handle, ownsHandle: false));
            while (true)
            {
                var pid = BitConverter.ToInt32((await ReceiveAsync(criu, sizeof(int)).ConfigureAwait(false)).Bytes);
                if (pid == RestoreFinished)
                    break;
                if (pid < 0)
                    continue;
                var (_, passed) = await ReceiveAsync(criu, 1).ConfigureAwait(false);
                var owner = (ulong)pid;
                Serve(owner, new LateProcess(
                    new UserFaultDescriptor(passed ?? throw Failed($"CRIU handed over no memory of task {pid}")),
                    new LateRanges(_store.RangesOf(owner)), (address, buffer) => _store.ReadAsync(owner, address, buffer),
                    () => _store.Remote is { HasRoom: true }, child => Serve(owner, child)));
                Interlocked.Increment(ref _tasks);
                Interlocked.Exchange(ref _handedOver, new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).TrySetResult();
            }

            _runs.TrySetResult();
            await CompleteAsync().ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_disposing.IsCancellationRequested)
        {
            // Nobody needs memory from here any more.
        }
        catch (Exception exception)
        {
            _complete.TrySetException(exception as PhaulException ?? Failed($"Memory cannot be given any more: {exception.Message}", exception));
        }
    }

    /// <summary>Ends when every process has all, those that were forked meanwhile included.</summary>
    private async Task CompleteAsync()
    {
        for (var done = 0; ; done++)
        {
            Task next;
            lock (_serving)
            {
                if (done == _serving.Count)
                {
                    _complete.TrySetResult();
                    return;
                }

                next = _serving[done];
            }

            await next.ConfigureAwait(false);
        }
    }

    /// <summary>A process that forks is served while its child is entered here: none is overlooked.</summary>
    private void Serve(ulong pid, LateProcess process)
    {
        if (!_holder.TryHold(process.Fault.Descriptor))
            Interlocked.Increment(ref _unheld);
        lock (_serving)
        {
            _processes.Add((pid, process));
            _serving.Add(Task.Run(() => ServeAsync(process), CancellationToken.None));
        }
    }

    private async Task ServeAsync(LateProcess process)
    {
        try
        {
            await process.ServeAsync(_runs.Task, _disposing.Token).ConfigureAwait(false);
            // It has all: what it needs from now on are the kernel's zeros
            _holder.LetGo(process.Fault.Descriptor);
            process.Dispose();
        }
        catch (OperationCanceledException) when (_disposing.IsCancellationRequested)
        {
            // It stands still where it lacks memory, and so it does after a failure, until it is ended.
            throw;
        }
        catch (Exception exception)
        {
            var failure = exception as PhaulException ?? Failed($"Memory cannot be given any more: {exception.Message}", exception);
            _complete.TrySetException(failure);
            throw failure;
        }
    }

    private async Task<(byte[] Bytes, SafeFileHandle? Passed)> ReceiveAsync(PacketSocket socket, int length)
    {
        var bytes = new byte[length];
        SafeFileHandle? descriptor = null;
        for (var done = 0; done < length;)
        {
            switch (socket.TryReceive(bytes.AsSpan(done), out var passed))
            {
                case null:
                    await DescriptorWaiter.WaitReadableAsync(socket.Descriptor, _disposing.Token).ConfigureAwait(false);
                    break;
                case 0:
                    descriptor?.Dispose();
                    throw Failed("CRIU ended before it had restored the tree");
                case { } count:
                    done += count;
                    descriptor ??= passed;
                    break;
            }
        }

        return (bytes, descriptor);
    }

    private static PhaulException Failed(string message, Exception? cause = null) => new(PhaulErrorId.RestoreFailed, message, cause);
}
