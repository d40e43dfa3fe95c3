// Two connected sides to test with, over whatever carrier a test wants, and a place for its files.

using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

/// <summary>Generous: reached only when something hangs.</summary>
internal static class Failsafe
{
    public static readonly TimeSpan Time = TimeSpan.FromSeconds(60);

    public static Task Within(this Task task) => task.WaitAsync(Time);

    public static Task<T> Within<T>(this Task<T> task) => task.WaitAsync(Time);

    public static Task<T> Within<T>(this ValueTask<T> task) => task.AsTask().WaitAsync(Time);

    public static Task Within(this ValueTask task) => task.AsTask().WaitAsync(Time);
}

/// <summary>A directory of a test's own, gone with it.</summary>
internal sealed class TemporaryDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("phaul-test-").FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public string MakeDirectory(string name) =>
        Directory.CreateDirectory(this[name], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute).FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}

internal sealed record ConnectedPair(PhaulConnection Source, PhaulConnection Destination) : IAsyncDisposable
{
    /// <summary>Over a socket pair: no carrier's authentication.</summary>
    public static async Task<ConnectedPair> OverSocketPairAsync(ConnectionOptions? source = null, ConnectionOptions? destination = null)
    {
        (Socket one, Socket other) = SocketPair.CreateStream();
        return await OverStreamsAsync(new NetworkStream(one, true), new NetworkStream(other, true), source, destination);
    }

    public static async Task<ConnectedPair> OverStreamsAsync(
        Stream one, Stream other, ConnectionOptions? source = null, ConnectionOptions? destination = null)
    {
        Task<PhaulConnection> initiator = PhaulConnection.OpenAsync(one, ConnectionRole.Initiator, "destination", source);
        Task<PhaulConnection> responder = PhaulConnection.OpenAsync(other, ConnectionRole.Responder, "source", destination);
        await Task.WhenAll(initiator, responder).Within();
        return new ConnectedPair(await initiator, await responder);
    }

    /// <summary>Over TCP on loopback with TLS and both certificates pinned.</summary>
    public static async Task<ConnectedPair> OverTlsAsync()
    {
        using X509Certificate2 here = HostCertificate.Create("here", TimeSpan.FromHours(1));
        using X509Certificate2 there = HostCertificate.Create("there", TimeSpan.FromHours(1));
        await using PhaulListener listener = PhaulListener.Start(new ListenOptions
        {
            Address = IPAddress.Loopback,
            Port = 0,
            Certificate = there,
            TrustedFingerprints = [HostCertificate.Fingerprint(here)],
        });
        var endpoint = new MigrationEndpoint
        {
            Host = "127.0.0.1",
            Port = ((IPEndPoint)listener.LocalEndPoint).Port,
            Certificate = here,
            TrustedFingerprints = [HostCertificate.Fingerprint(there)],
        };
        PhaulConnection source = await PhaulConnector.ConnectAsync(endpoint, Failsafe.Time);
        return new ConnectedPair(source, await listener.AcceptAsync().Within());
    }

    public async ValueTask DisposeAsync()
    {
        await Source.DisposeAsync();
        await Destination.DisposeAsync();
    }
}
