// The page path without CRIU: bytes go into a UNIX socket on one side and come out of one on the other, over TCP on loopback between.
// By Phaul's relays, with TLS and without; and by a plain copy with the same sockets, with .NET's TLS and without. Alternating; medians.
// Arguments: MIB RUNS

using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using Phaul;
using Phaul.Transport;

const int Piece = 256 << 10;
var bytes = (args.Length > 0 ? long.Parse(args[0]) : 2048) << 20;
var runs = args.Length > 1 ? int.Parse(args[1]) : 5;
using var one = HostCertificate.Create("one", TimeSpan.FromHours(1));
using var other = HostCertificate.Create("other", TimeSpan.FromHours(1));
var ways = new (string Name, Func<Task<Way>> Open)[]
{
    ("plain copy", () => CopyAsync(tls: false)), ("relay", () => RelayAsync(tls: false)),
    ("plain copy, .NET's TLS", () => CopyAsync(tls: true)), ("relay, TLS", () => RelayAsync(tls: true)),
};
var speeds = ways.ToDictionary(way => way.Name, _ => new List<double>());
for (var run = 0; run <= runs; run++)
{
    foreach (var (name, open) in ways)
    {
        await using var way = await open();
        var seconds = await MoveAsync(way);
        // The first round compiles
        if (run > 0)
            speeds[name].Add(bytes / seconds / 1e6);
    }
}

double Median(string name) => speeds[name].Order().ElementAt(runs / 2);
Console.WriteLine($"{Environment.ProcessorCount} CPUs, {bytes >> 20} MiB, medians of {runs} runs");
foreach (var (name, _) in ways)
    Console.WriteLine($"{name,-24} {Median(name),8:0} MB/s");
Console.WriteLine($"relay / plain copy            {Median("relay") / Median("plain copy"):0.00}");
Console.WriteLine($"relay, TLS / plain copy, TLS  {Median("relay, TLS") / Median("plain copy, .NET's TLS"):0.00}");
Console.WriteLine($"relay, TLS / plain copy       {Median("relay, TLS") / Median("plain copy"):0.00}");

async Task<double> MoveAsync(Way way)
{
    var clock = Stopwatch.StartNew();
    var writing = Task.Run(async () =>
    {
        var piece = new byte[Piece];
        new Random(1).NextBytes(piece);
        for (var left = bytes; left > 0; left -= Piece)
        {
            for (var rest = piece.AsMemory(); rest.Length > 0;)
                rest = rest[await way.In.SendAsync(rest, SocketFlags.None)..];
        }

        way.In.Shutdown(SocketShutdown.Send);
    });
    var buffer = new byte[Piece];
    long arrived = 0;
    for (int count; (count = await way.Out.ReceiveAsync(buffer, SocketFlags.None)) > 0;)
        arrived += count;
    await writing;
    return arrived == bytes ? clock.Elapsed.TotalSeconds : throw new InvalidOperationException($"{arrived} bytes arrived.");
}

// What Phaul does on both hosts; CRIU's ends are ours here
async Task<Way> RelayAsync(bool tls)
{
    var (source, destination) = await ConnectAsync(tls);
    var (into, intoEnd) = UnixPair();
    var (from, fromEnd) = UnixPair();
    var there = new PageRelay(intoEnd, source.OpenChannel(ChannelId.Pages));
    var here = new PageRelay(fromEnd, destination.OpenChannel(ChannelId.Pages));
    there.Start();
    here.Start();
    return new Way(into, from, [there, here, source, destination]);
}

async Task<(PhaulConnection Source, PhaulConnection Destination)> ConnectAsync(bool tls)
{
    await using var listener = PhaulListener.Start(new ListenOptions
    {
        Address = IPAddress.Loopback,
        Port = 0,
        Certificate = tls ? other : null,
        TrustedFingerprints = tls ? [HostCertificate.Fingerprint(one)] : [],
        InsecureLoopback = !tls,
    });
    var accepting = listener.AcceptAsync();
    var source = await PhaulConnector.ConnectAsync(
        new MigrationEndpoint
        {
            Host = "127.0.0.1",
            Port = ((IPEndPoint)listener.LocalEndPoint).Port,
            Certificate = tls ? one : null,
            TrustedFingerprints = tls ? [HostCertificate.Fingerprint(other)] : [],
            InsecureLoopback = !tls,
        },
        TimeSpan.FromSeconds(30));
    return (source, await accepting);
}

async Task<Way> CopyAsync(bool tls)
{
    using var listener = new TcpListener(IPAddress.Loopback, 0);
    listener.Start();
    var client = new TcpClient();
    await client.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
    var server = await listener.AcceptTcpClientAsync();
    Stream sends = client.GetStream(), receives = server.GetStream();
    if (tls)
    {
        var (asClient, asServer) = (new SslStream(sends, false, (_, _, _, _) => true), new SslStream(receives));
        await Task.WhenAll(
            asClient.AuthenticateAsClientAsync("other"),
            asServer.AuthenticateAsServerAsync(X509CertificateLoader.LoadPkcs12(other.Export(X509ContentType.Pkcs12), null)));
        (sends, receives) = (asClient, asServer);
    }

    var (into, intoEnd) = UnixPair();
    var (from, fromEnd) = UnixPair();
    var there = Task.Run(async () =>
    {
        var buffer = new byte[Piece];
        for (int count; (count = await intoEnd.ReceiveAsync(buffer, SocketFlags.None)) > 0;)
            await sends.WriteAsync(buffer.AsMemory(0, count));
        client.Client.Shutdown(SocketShutdown.Send);
    });
    var here = Task.Run(async () =>
    {
        var buffer = new byte[Piece];
        for (int count; (count = await receives.ReadAsync(buffer)) > 0;)
            await fromEnd.SendAsync(buffer.AsMemory(0, count), SocketFlags.None);
        fromEnd.Shutdown(SocketShutdown.Send);
    });
    return new Way(into, from, [new Ending(async () =>
    {
        await Task.WhenAll(there, here);
        sends.Dispose();
        receives.Dispose();
        intoEnd.Dispose();
        fromEnd.Dispose();
    })]);
}

static (Socket, Socket) UnixPair()
{
    using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    var path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
    listener.Bind(new UnixDomainSocketEndPoint(path));
    listener.Listen(1);
    var connected = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    connected.Connect(new UnixDomainSocketEndPoint(path));
    File.Delete(path);
    return (connected, listener.Accept());
}

/// <summary>Bytes go in at one end and come out at the other.</summary>
internal sealed record Way(Socket In, Socket Out, IReadOnlyList<IAsyncDisposable> Between) : IAsyncDisposable
{
    public async ValueTask DisposeAsync()
    {
        In.Dispose();
        foreach (var one in Between)
            await one.DisposeAsync();
        Out.Dispose();
    }
}

/// <summary>What is to be done at the end.</summary>
internal sealed class Ending(Func<Task> end) : IAsyncDisposable
{
    public ValueTask DisposeAsync() => new(end());
}
