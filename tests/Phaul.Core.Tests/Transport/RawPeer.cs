// A peer that speaks the protocol by hand, and so can break it.

using System.Buffers.Binary;
using System.Net.Sockets;
using Google.Protobuf;
using Phaul.Native;
using Phaul.Transport;
using Phaul.Transport.Wire;

namespace Phaul.Tests.Transport;

internal sealed class RawPeer : IAsyncDisposable
{
    private readonly NetworkStream _stream;

    private RawPeer(NetworkStream stream, PhaulConnection connection)
    {
        _stream = stream;
        Connection = connection;
    }

    /// <summary>The side under test.</summary>
    public PhaulConnection Connection { get; }

    public static async Task<RawPeer> ConnectAsync(ConnectionOptions? options = null)
    {
        (Socket one, Socket other) = SocketPair.CreateStream();
        var stream = new NetworkStream(one, ownsSocket: true);
        Task<PhaulConnection> opening = PhaulConnection.OpenAsync(new NetworkStream(other, true), ConnectionRole.Responder, "raw", options);
        await stream.WriteAsync(Frame(0, FrameKind.Hello, Hello().ToByteArray()));
        var peer = new RawPeer(stream, await opening.Within());
        (byte _, FrameKind kind, byte[] _) = await peer.ReadFrameAsync();
        Assert.Equal(FrameKind.HelloReply, kind);
        return peer;
    }

    public static Hello Hello() => new()
    {
        Magic = 0x0A0D_004C_5541_4850,
        LowestVersion = 1,
        HighestVersion = 1,
        HostName = "raw",
        PhaulVersion = "0",
        PeerTimeoutMilliseconds = 60_000,
        Window = 8 << 20,
    };

    public static byte[] Frame(byte channel, FrameKind kind, ReadOnlySpan<byte> payload, ushort reserved = 0, uint? length = null)
    {
        var frame = new byte[FrameHeader.Size + payload.Length];
        frame[0] = channel;
        frame[1] = (byte)kind;
        BinaryPrimitives.WriteUInt16LittleEndian(frame.AsSpan(2), reserved);
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(4), length ?? (uint)payload.Length);
        payload.CopyTo(frame.AsSpan(FrameHeader.Size));
        return frame;
    }

    public async Task SendAsync(ReadOnlyMemory<byte> bytes) => await _stream.WriteAsync(bytes).Within();

    /// <summary>Sends what may no longer be wanted.</summary>
    public async Task TrySendAsync(ReadOnlyMemory<byte> bytes)
    {
        try
        {
            await SendAsync(bytes);
        }
        catch (IOException)
        {
            // The side under test has already hung up.
        }
    }

    public async Task<(byte Channel, FrameKind Kind, byte[] Payload)> ReadFrameAsync()
    {
        var header = new byte[FrameHeader.Size];
        await _stream.ReadExactlyAsync(header).Within();
        var payload = new byte[BinaryPrimitives.ReadUInt32LittleEndian(header.AsSpan(4))];
        await _stream.ReadExactlyAsync(payload).Within();
        return (header[0], (FrameKind)header[1], payload);
    }

    /// <summary>Waits until the side under test has ended the connection.</summary>
    public async Task<PhaulException> FaultAsync()
    {
        await ClosedAsync(Connection).Within();
        return Connection.Fault!;
    }

    public static async Task ClosedAsync(PhaulConnection connection)
    {
        var closed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using CancellationTokenRegistration registration = connection.Closed.Register(() => closed.TrySetResult());
        await closed.Task;
    }

    public void HangUp() => _stream.Dispose();

    public async ValueTask DisposeAsync()
    {
        await _stream.DisposeAsync();
        await Connection.DisposeAsync();
    }
}
