// One connection to a CRIU: the swrk process that was started for it, or a service's socket.
using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.Win32.SafeHandles;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>One connection to a CRIU, over which messages go. It owns the CRIU process that it started.</summary>
internal sealed class CriuSession : IAsyncDisposable
{
    /// <summary>swrk's number of the RPC socket.</summary>
    public const int RpcDescriptor = 3;

    /// <summary>swrk's number of the memory socket.</summary>
    public const int MemoryDescriptor = 4;

    // CRIU's longest answer is an error message of 1 KiB and a few numbers.
    private const int LongestAnswer = 64 * 1024;

    // What is sent can be longer: thousands of external mounts.
    private const int SendBuffer = 4 * 1024 * 1024;

    // Between the end of the connection and that of the process lies only CRIU's own exit.
    private static readonly TimeSpan ExitAfterDisconnect = TimeSpan.FromSeconds(5);

    private readonly PacketSocket _socket;
    private readonly ChildProcess? _process;

    private CriuSession(PacketSocket socket, ChildProcess? process)
    {
        _socket = socket;
        _process = process;
    }

    /// <summary>The swrk process, or null with a service.</summary>
    public int? ProcessId => _process?.Pid;

    /// <summary>Whether a PRE_DUMP succeeded on it: CRIU then takes further PRE_DUMPs and one DUMP, nothing else.</summary>
    public bool IsPreDumping { get; set; }

    /// <summary>Whether it has become useless while nobody used it.</summary>
    public bool IsBroken => _process is { HasExited: true };

    /// <summary>The last part of what the swrk process wrote to its standard error.</summary>
    public string ErrorOutput => _process?.OutputTail ?? "";

    /// <summary>Starts a swrk, or connects to the service.</summary>
    /// <exception cref="SessionFailureException">There is none.</exception>
    public static CriuSession Open(CriuClientOptions options)
    {
        try
        {
            return options.ServiceSocketPath is { } path ? new CriuSession(Sized(PacketSocket.Connect(path)), null) : Spawn(options);
        }
        catch (NativeException exception)
        {
            var kind = exception.Errno is Libc.Enoent or Libc.Eacces or Libc.Enotdir or Libc.Enoexec or Libc.Econnrefused
                ? CriuFailure.NotFound
                : CriuFailure.Died;
            throw new SessionFailureException(kind, $"cannot be started: {exception.Message}", inner: exception);
        }
    }

    /// <summary>What it restored goes on from now, whatever becomes of CRIU: some of it may be in CRIU's own session.</summary>
    public void SpareRestored() => _process?.SpareGroup();

    /// <summary>Kills it; nothing where it is a service.</summary>
    public void Kill() => _process?.Kill(Libc.SignalKill);

    /// <summary>Sends a request, or the answer to a notification.</summary>
    /// <exception cref="SessionFailureException">CRIU is gone.</exception>
    public async Task SendAsync(CriuRequest request, CancellationToken cancellationToken)
    {
        try
        {
            await _socket.SendAsync(request.ToByteArray(), cancellationToken).ConfigureAwait(false);
        }
        catch (NativeException exception) when (exception.Errno is Libc.Epipe or Libc.Econnreset)
        {
            throw await EndedAsync().ConfigureAwait(false);
        }
        catch (NativeException exception) when (exception.Errno == Libc.Emsgsize)
        {
            throw new SessionFailureException(
                CriuFailure.Refused, $"a request of {request.CalculateSize()} bytes is too large", inner: exception);
        }
    }

    /// <summary>Receives one message.</summary>
    /// <exception cref="SessionFailureException">CRIU is gone, or sent what is no message.</exception>
    public async Task<CriuMessage> ReceiveAsync(CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(LongestAnswer);
        try
        {
            var exited = false;
            while (true)
            {
                if (_socket.TryReceive(buffer.AsSpan(0, LongestAnswer), out var passed) is { } length)
                {
                    if (length == 0) throw await EndedAsync().ConfigureAwait(false);
                    return Parse(buffer, length, passed);
                }
                // An answer that was sent just before the exit has been looked for once more by now.
                if (exited) throw await EndedAsync().ConfigureAwait(false);
                exited = await WaitMessageOrExitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Completes when CRIU has died or hung up, also while nothing is being received.</summary>
    public async Task WaitForEndAsync(CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var closed = DescriptorWaiter.WaitPeerClosedAsync(_socket.Descriptor, either.Token);
        var exited = _process?.WaitForExitAsync(either.Token) ?? Never(either.Token);
        await FirstAsync(closed, exited, either).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
    }

    /// <summary>Hangs up and waits for CRIU's own end; kills it when that takes too long.</summary>
    /// <param name="grace">How long that may take; null: as long as an idle CRIU needs.</param>
    public async Task EndAsync(TimeSpan? grace = null)
    {
        _socket.Dispose();
        if (_process is not null)
        {
            try
            {
                await _process.WaitForExitAsync(CancellationToken.None).WaitAsync(grace ?? ExitAfterDisconnect).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                // Disposing kills it.
            }
        }
        await DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>What the end of the connection means: how the process ended, or only that a service hung up.</summary>
    public async Task<SessionFailureException> EndedAsync()
    {
        if (_process is null) return new SessionFailureException(CriuFailure.Disconnected, "the service closed the connection");
        try
        {
            var status = await _process.WaitForExitAsync(CancellationToken.None).WaitAsync(ExitAfterDisconnect).ConfigureAwait(false);
            return new SessionFailureException(CriuFailure.Died, $"died with {status}", status);
        }
        catch (TimeoutException)
        {
            return new SessionFailureException(CriuFailure.Disconnected, "closed the connection and runs on");
        }
    }

    /// <summary>Hangs up, and kills the swrk process if it still runs.</summary>
    public async ValueTask DisposeAsync()
    {
        _socket.Dispose();
        if (_process is not null) await _process.DisposeAsync().ConfigureAwait(false);
    }

    private static CriuSession Spawn(CriuClientOptions options)
    {
        var (ours, inheritable) = SocketPair.CreatePacket();
        using (inheritable)
        {
            try
            {
                var descriptors = new Dictionary<int, SafeHandle>(options.InheritedDescriptors) { [RpcDescriptor] = inheritable };
                if (options.MemorySocket is { } memory) descriptors[MemoryDescriptor] = memory.SafeHandle;
                return new CriuSession(Sized(ours), ChildProcess.Start(new ProcessStart
                {
                    File = options.CriuPath,
                    Arguments = ["swrk", RpcDescriptor.ToString(CultureInfo.InvariantCulture)],
                    Descriptors = descriptors,
                    // Killed while it tries out what the kernel can do, it would leave a child behind that stands still.
                    GroupEndsWithIt = true,
                }));
            }
            catch
            {
                ours.Dispose();
                throw;
            }
        }
    }

    private static PacketSocket Sized(PacketSocket socket)
    {
        socket.SetSendBufferSize(SendBuffer);
        return socket;
    }

    private static CriuMessage Parse(byte[] buffer, int length, SafeFileHandle? passed)
    {
        try
        {
            if (length > LongestAnswer)
                throw new SessionFailureException(CriuFailure.Garbage, $"sent a message of {length} bytes, {LongestAnswer} are allowed");
            var response = CriuResponse.Parser.ParseFrom(buffer, 0, length);
            // The parser itself lets missing fields pass.
            if (!response.IsInitialized()) throw new SessionFailureException(CriuFailure.Garbage, "sent an incomplete message");
            return new CriuMessage(response, passed);
        }
        catch (InvalidProtocolBufferException exception)
        {
            passed?.Dispose();
            throw new SessionFailureException(CriuFailure.Garbage, "sent what is no RPC message", inner: exception);
        }
        catch (SessionFailureException)
        {
            passed?.Dispose();
            throw;
        }
    }

    // Children of a dead CRIU may hold its end of the socket open: the end of the process is waited for as well.
    private async Task<bool> WaitMessageOrExitAsync(CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var readable = DescriptorWaiter.WaitReadableAsync(_socket.Descriptor, either.Token);
        var exited = _process?.WaitForExitAsync(either.Token) ?? Never(either.Token);
        var first = await FirstAsync(readable, exited, either).ConfigureAwait(false);
        cancellationToken.ThrowIfCancellationRequested();
        return first == exited;
    }

    private static async Task<Task> FirstAsync(Task one, Task other, CancellationTokenSource stop)
    {
        var first = await Task.WhenAny(one, other).ConfigureAwait(false);
        await stop.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(one, other).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return first;
    }

    private static Task Never(CancellationToken cancellationToken) => Task.Delay(Timeout.Infinite, cancellationToken);
}

/// <summary>A message from CRIU, and a descriptor that came with it, which the receiver owns.</summary>
internal readonly record struct CriuMessage(CriuResponse Response, SafeFileHandle? Passed);
