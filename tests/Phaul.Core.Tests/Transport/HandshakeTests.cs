// Who gets through and who does not, on either side, and whether each is told why.

using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Phaul.Native;
using Phaul.Transport;

namespace Phaul.Tests.Transport;

public sealed class HandshakeTests : IDisposable
{
    private readonly X509Certificate2 _source = HostCertificate.Create("source", TimeSpan.FromHours(1));
    private readonly X509Certificate2 _destination = HostCertificate.Create("destination", TimeSpan.FromHours(1));
    private readonly X509Certificate2 _stranger = HostCertificate.Create("stranger", TimeSpan.FromHours(1));
    private readonly X509Certificate2 _expired = Expired();
    private readonly BlockingCollection<string> _rejected = [];
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose()
    {
        foreach (X509Certificate2 certificate in (X509Certificate2[])[_source, _destination, _stranger, _expired])
            certificate.Dispose();
        _rejected.Dispose();
        _temporary.Dispose();
    }

    [Fact]
    public async Task BothSidesAreWhoTheyShouldBeAndLearnWhoTheOtherIs()
    {
        await using PhaulListener listener = Listen(_destination, [_stranger, _source]);
        Assert.Equal(HostCertificate.Fingerprint(_destination), listener.Fingerprint);
        await using PhaulConnection source = await ConnectAsync(
            listener, _source, [_destination], new ConnectionOptions { HostName = "here\u001b[31m", Capabilities = ["lazy-pages"] });
        await using PhaulConnection destination = await listener.AcceptAsync().Within();

        Assert.Equal(HostCertificate.Fingerprint(_destination), source.Peer.Fingerprint);
        Assert.Equal(HostCertificate.Fingerprint(_source), destination.Peer.Fingerprint);
        Assert.Equal("here?[31m", destination.Peer.HostName);
        Assert.Equal(["lazy-pages"], destination.Peer.Capabilities);
        Assert.StartsWith("127.0.0.1:", destination.Peer.Address, StringComparison.Ordinal);
        Assert.Equal(1, source.Peer.ProtocolVersion);
        Assert.Equal(File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim(), source.Peer.BootId);
        Assert.Equal(File.ReadAllText("/proc/sys/kernel/osrelease").Trim(), source.Peer.KernelRelease);
        Assert.Equal(Dns.GetHostName(), source.Peer.HostName);
        Assert.Empty(_rejected);
    }

    [Fact]
    public async Task AStrangeSourceIsRefusedAndToldItsFingerprint()
    {
        await using PhaulListener listener = Listen(_destination, [_source]);

        PhaulException thrown = await RefusedAsync(() => ConnectAsync(listener, _stranger, [_destination]));

        Assert.Contains(HostCertificate.Fingerprint(_stranger), thrown.Message, StringComparison.Ordinal);
        Assert.Contains("not trusted there", thrown.Message, StringComparison.Ordinal);
        Assert.DoesNotContain(HostCertificate.Fingerprint(_source), thrown.Message, StringComparison.Ordinal);
        Assert.Contains(HostCertificate.Fingerprint(_stranger), thrown.RecommendedAction, StringComparison.Ordinal);
        string report = Report();
        Assert.StartsWith("127.0.0.1:", report, StringComparison.Ordinal);
        Assert.Contains(HostCertificate.Fingerprint(_stranger), report, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AStrangeDestinationIsRefusedAndItsFingerprintNamed()
    {
        await using PhaulListener listener = Listen(_destination, [_source]);

        PhaulException thrown = await RefusedAsync(() => ConnectAsync(listener, _source, [_stranger]));

        Assert.Contains(HostCertificate.Fingerprint(_destination), thrown.Message, StringComparison.Ordinal);
        Assert.Contains(HostCertificate.Fingerprint(_destination), thrown.RecommendedAction, StringComparison.Ordinal);
        Assert.StartsWith("127.0.0.1:", Report(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnExpiredSourceIsRefusedAndTold()
    {
        await using PhaulListener listener = Listen(_destination, [_expired]);

        PhaulException thrown = await RefusedAsync(() => ConnectAsync(listener, _expired, [_destination]));

        Assert.Contains("expired on", thrown.Message, StringComparison.Ordinal);
        Assert.Contains("expired on", Report(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnExpiredDestinationIsRefused()
    {
        await using PhaulListener listener = Listen(_expired, [_source]);

        PhaulException thrown = await RefusedAsync(() => ConnectAsync(listener, _source, [_expired]));

        Assert.Contains("expired on", thrown.Message, StringComparison.Ordinal);
        Assert.StartsWith("127.0.0.1:", Report(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(SslProtocols.Tls13, "no certificate")]
    [InlineData(SslProtocols.Tls12, "TLS handshake")]
    public async Task WithoutCertificateOrWithAnOlderTlsNobodyGetsIn(SslProtocols protocol, string report)
    {
        await using PhaulListener listener = Listen(_destination, [_source]);
        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)listener.LocalEndPoint);
        await using var tls = new SslStream(client.GetStream(), false, (_, _, _, _) => true);
        try
        {
            await tls.AuthenticateAsClientAsync(
                new SslClientAuthenticationOptions { EnabledSslProtocols = protocol, TargetHost = "x" }).Within();
            await tls.WriteAsync(RawPeer.Frame(0, FrameKind.Hello, []));
        }
        catch (Exception exception) when (exception is IOException or AuthenticationException)
        {
            // What the client sees is its own affair here.
        }

        Assert.Contains(report, Report(), StringComparison.Ordinal);
        await NobodyWasAcceptedAsync(listener);
    }

    [Fact]
    public async Task PlainTcpDoesNotGetThroughToATlsListener()
    {
        await using PhaulListener listener = Listen(_destination, [_source]);

        await Assert.ThrowsAsync<PhaulException>(() => PhaulConnector.ConnectAsync(
            new MigrationEndpoint { Host = "127.0.0.1", Port = Port(listener), InsecureLoopback = true }, Failsafe.Time));

        Assert.Contains("TLS handshake", Report(), StringComparison.Ordinal);
        await NobodyWasAcceptedAsync(listener);
    }

    [Fact]
    public async Task TlsDoesNotGetThroughToAPlainListener()
    {
        await using PhaulListener listener = PhaulListener.Start(Insecure(IPAddress.Loopback));

        await RefusedAsync(() => ConnectAsync(listener, _source, [_destination]));

        Assert.Contains("speaks TLS", Report(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task PlainTcpNeedsLoopbackAndTheWord()
    {
        await using PhaulListener listener = PhaulListener.Start(Insecure(IPAddress.IPv6Loopback));
        var endpoint = new MigrationEndpoint { Host = "::1", Port = Port(listener), InsecureLoopback = true };
        await using PhaulConnection source = await PhaulConnector.ConnectAsync(endpoint, Failsafe.Time);
        await using PhaulConnection destination = await listener.AcceptAsync().Within();
        Assert.Null(destination.Peer.Fingerprint);

        Invalid("needs a certificate", await Assert.ThrowsAsync<PhaulException>(
            () => PhaulConnector.ConnectAsync(endpoint with { InsecureLoopback = false }, Failsafe.Time)));
        Invalid("needs a certificate", Assert.Throws<PhaulException>(
            () => PhaulListener.Start(Insecure(IPAddress.Loopback) with { InsecureLoopback = false })));
        foreach (IPAddress address in (IPAddress[])[IPAddress.Any, IPAddress.IPv6Any, IPAddress.Parse("192.0.2.1")])
            Invalid("loopback", Assert.Throws<PhaulException>(() => PhaulListener.Start(Insecure(address))));
    }

    [SkippableFact]
    public async Task WithoutTlsTheRealAddressesCount()
    {
        IPAddress? address = (await Dns.GetHostAddressesAsync(Dns.GetHostName())).Concat(NonLoopback()).FirstOrDefault(
            candidate => candidate.AddressFamily == AddressFamily.InterNetwork && !IPAddress.IsLoopback(candidate));
        Skip.If(address is null, "This machine has no address but loopback.");
        using var listener = new TcpListener(address, 0);
        listener.Start();

        int port = ((IPEndPoint)listener.LocalEndpoint).Port;
        var endpoint = new MigrationEndpoint { Host = address.ToString(), Port = port, InsecureLoopback = true };
        Invalid("is none", await Assert.ThrowsAsync<PhaulException>(() => PhaulConnector.ConnectAsync(endpoint, Failsafe.Time)));
        using Socket accepted = await listener.AcceptSocketAsync();
        Invalid("is none", Assert.Throws<PhaulException>(() => TcpCarrier.CheckLoopback(accepted)));
    }

    [Fact]
    public void WithoutTrustNobodyListensOrConnects()
    {
        Invalid("not one certificate fingerprint", Assert.Throws<PhaulException>(() => Listen(_destination, [])));
        using var publicOnly = X509CertificateLoader.LoadCertificate(_destination.RawData);
        Invalid("no private key", Assert.Throws<PhaulException>(() => Listen(publicOnly, [_source])));
    }

    [Fact]
    public async Task SlowPeersDelayNobody()
    {
        ListenOptions options = Options(_destination, [_source]) with { MaxHandshakes = 4, HandshakeGrace = TimeSpan.Zero };
        await using PhaulListener listener = PhaulListener.Start(options);
        var idlers = new List<Socket>();
        try
        {
            for (int i = 0; i < 20; i++)
            {
                var idler = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                idlers.Add(idler);
                await idler.ConnectAsync(listener.LocalEndPoint);
            }

            await using PhaulConnection source = await ConnectAsync(listener, _source, [_destination]);
            await using PhaulConnection destination = await listener.AcceptAsync().Within();

            Assert.Equal(HostCertificate.Fingerprint(_source), destination.Peer.Fingerprint);
            Assert.Contains("many others", Report(), StringComparison.Ordinal);
        }
        finally
        {
            idlers.ForEach(idler => idler.Dispose());
        }
    }

    [Fact]
    public async Task AHandshakeHasATimeLimit()
    {
        await using PhaulListener listener = PhaulListener.Start(
            Options(_destination, [_source]) with { HandshakeTimeout = TimeSpan.FromMilliseconds(50) });
        using var idler = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        await idler.ConnectAsync(listener.LocalEndPoint);

        Assert.Contains("no handshake within", Report(), StringComparison.Ordinal);
        Assert.Equal(0, await ReceiveOrResetAsync(idler).Within());
    }

    [Fact]
    public async Task AHostThatDoesNotAnswerIsGivenUp()
    {
        using var mute = new TcpListener(IPAddress.Loopback, 0);
        mute.Start();
        var endpoint = new MigrationEndpoint
        {
            Host = "127.0.0.1",
            Port = ((IPEndPoint)mute.LocalEndpoint).Port,
            Certificate = _source,
            TrustedFingerprints = [HostCertificate.Fingerprint(_destination)],
        };

        var thrown = await Assert.ThrowsAsync<PhaulException>(
            () => PhaulConnector.ConnectAsync(endpoint, TimeSpan.FromMilliseconds(100)).Within());
        Assert.Equal(PhaulErrorId.ConnectionFailed, thrown.ErrorId);
        Assert.Contains("did not answer within", thrown.Message, StringComparison.Ordinal);

        using var cancel = new CancellationTokenSource();
        Task<PhaulConnection> connecting = PhaulConnector.ConnectAsync(endpoint, Failsafe.Time, cancellationToken: cancel.Token);
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => connecting.Within());

        mute.Stop();
        thrown = await Assert.ThrowsAsync<PhaulException>(() => PhaulConnector.ConnectAsync(endpoint, Failsafe.Time).Within());
        Assert.Equal(PhaulErrorId.ConnectionFailed, thrown.ErrorId);
        Assert.Contains("refused", thrown.Message, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task WithoutACommonVersionBothSidesNameBothRanges()
    {
        (Socket one, Socket other) = SocketPair.CreateStream();
        Task<PhaulConnection> source = PhaulConnection.OpenAsync(
            new NetworkStream(one, true),
            ConnectionRole.Initiator,
            "destination",
            new ConnectionOptions { LowestVersion = 3, HighestVersion = 4 });
        Task<PhaulConnection> destination = PhaulConnection.OpenAsync(
            new NetworkStream(other, true),
            ConnectionRole.Responder,
            "source",
            new ConnectionOptions { LowestVersion = 1, HighestVersion = 2 });

        foreach (Task<PhaulConnection> side in (Task<PhaulConnection>[])[source, destination])
        {
            var thrown = await Assert.ThrowsAsync<PhaulException>(() => side.Within());
            Assert.Equal(PhaulErrorId.ProtocolError, thrown.ErrorId);
            Assert.Contains("3 to 4", thrown.Message, StringComparison.Ordinal);
            Assert.Contains("1 to 2", thrown.Message, StringComparison.Ordinal);
            Assert.Equal(2, thrown.Message.Split(ThisHost.PhaulVersion).Length - 1);
        }
    }

    [Fact]
    public async Task TheHighestCommonVersionIsSpoken()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync(
            new ConnectionOptions { LowestVersion = 2, HighestVersion = 9 },
            new ConnectionOptions { LowestVersion = 1, HighestVersion = 5 });

        Assert.Equal(5, pair.Source.Peer.ProtocolVersion);
        Assert.Equal(5, pair.Destination.Peer.ProtocolVersion);
    }

    // A child that another test has just forked has the listening socket, too, until it executes its program
    private static async Task ClosedForAllAsync(string path)
    {
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                Assert.True(attempt < 3000, $"somebody listens at {path} still");
                using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path)).Within();
                await Task.Delay(10);
            }
            catch (SocketException exception) when (exception.SocketErrorCode == SocketError.ConnectionRefused)
            {
                return;
            }
        }
    }

    [Fact]
    public async Task AUnixSocketIsItsOwnersAloneAndAStaleOneIsReplaced()
    {
        string path = _temporary["phaul.sock"];
        using (var stale = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            // Bound by hand, so that closing leaves the file behind, as a crash does.
            stale.Bind(new UnixDomainSocketEndPoint(path));
            stale.Listen();
            var thrown = Assert.Throws<PhaulException>(() => PhaulListener.Start(Unix(path)));
            Assert.Contains("another process listens", thrown.Message, StringComparison.Ordinal);
            File.Move(path, path + ".kept");
        }

        File.Move(path + ".kept", path);
        await ClosedForAllAsync(path);
        await using (PhaulListener listener = PhaulListener.Start(Unix(path)))
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
            await using PhaulConnection source = await PhaulConnector.ConnectAsync(
                new MigrationEndpoint { UnixSocketPath = path }, Failsafe.Time);
            await using PhaulConnection destination = await listener.AcceptAsync().Within();
            Assert.Equal(path, source.Peer.Address);
        }

        Assert.False(File.Exists(path));
        File.WriteAllText(path, "precious");
        Assert.Throws<PhaulException>(() => PhaulListener.Start(Unix(path)));
        Assert.Equal("precious", File.ReadAllText(path));
    }

    [SkippableFact]
    public async Task AnotherUserDoesNotGetThroughAUnixSocket()
    {
        Skip.IfNot(Environment.IsPrivilegedProcess, "Becoming another user needs root.");
        Skip.IfNot(File.Exists("/usr/bin/setpriv") && File.Exists("/usr/bin/perl"), "Needs setpriv and perl.");
        string path = _temporary["phaul.sock"];
        await using PhaulListener listener = PhaulListener.Start(Unix(path));
        // Somebody opens what should be closed: the kernel's word on who connects still counts.
        const UnixFileMode Everybody = (UnixFileMode)0b111_111_111;
        File.SetUnixFileMode(path, Everybody);
        File.SetUnixFileMode(_temporary.Path, Everybody);
        const string Connect =
            "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 3; sysread($s, my $b, 1); exit 0";
        using Process process = Process.Start(
            "/usr/bin/setpriv", ["--reuid=65534", "--clear-groups", "/usr/bin/perl", "-e", Connect, path]);

        Assert.Contains("belongs to user 65534", Report(), StringComparison.Ordinal);

        await process.WaitForExitAsync().Within();
        Assert.Equal(0, process.ExitCode);
    }

    [Fact]
    public async Task ConnectionsThatNobodyTookEndWithTheListener()
    {
        PhaulListener listener = Listen(_destination, [_source]);
        await using PhaulConnection source = await ConnectAsync(listener, _source, [_destination]);
        Task<PhaulConnection> waiting = listener.AcceptAsync();
        await using PhaulConnection taken = await waiting.Within();
        await using PhaulConnection untaken = await ConnectAsync(listener, _source, [_destination]);

        await listener.DisposeAsync().Within();

        await RawPeer.ClosedAsync(untaken).Within();
        Assert.Null(source.Fault);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => listener.AcceptAsync());
    }

    private static X509Certificate2 Expired()
    {
        using X509Certificate2 fresh = HostCertificate.Create("expired", TimeSpan.FromTicks(1));
        return X509CertificateLoader.LoadPkcs12(fresh.Export(X509ContentType.Pkcs12), null);
    }

    private static IEnumerable<IPAddress> NonLoopback() =>
        System.Net.NetworkInformation.NetworkInterface.GetAllNetworkInterfaces()
            .SelectMany(network => network.GetIPProperties().UnicastAddresses).Select(unicast => unicast.Address);

    private static int Port(PhaulListener listener) => ((IPEndPoint)listener.LocalEndPoint).Port;

    private static Task<PhaulConnection> ConnectAsync(
        PhaulListener listener, X509Certificate2 certificate, X509Certificate2[] trusted, ConnectionOptions? options = null) =>
        PhaulConnector.ConnectAsync(
            new MigrationEndpoint
            {
                Host = "127.0.0.1",
                Port = Port(listener),
                Certificate = certificate,
                TrustedFingerprints = [.. trusted.Select(HostCertificate.Fingerprint)],
            },
            Failsafe.Time,
            options);

    private static async Task<PhaulException> RefusedAsync(Func<Task<PhaulConnection>> connect)
    {
        var thrown = await Assert.ThrowsAsync<PhaulException>(() => connect().Within());
        Assert.Equal(PhaulErrorId.AuthenticationFailed, thrown.ErrorId);
        return thrown;
    }

    private static void Invalid(string why, PhaulException thrown)
    {
        Assert.Equal(PhaulErrorId.InvalidRequest, thrown.ErrorId);
        Assert.Contains(why, thrown.Message, StringComparison.Ordinal);
    }

    private static async Task<int> ReceiveOrResetAsync(Socket socket)
    {
        try
        {
            return await socket.ReceiveAsync(new byte[1], SocketFlags.None);
        }
        catch (SocketException)
        {
            return 0;
        }
    }

    private async Task NobodyWasAcceptedAsync(PhaulListener listener)
    {
        // The right one still gets through, and is the first to do so.
        await using PhaulConnection source = await ConnectAsync(listener, _source, [_destination]);
        await using PhaulConnection accepted = await listener.AcceptAsync().Within();
        Assert.Equal(HostCertificate.Fingerprint(_source), accepted.Peer.Fingerprint);
    }

    private PhaulListener Listen(X509Certificate2 certificate, X509Certificate2[] trusted) =>
        PhaulListener.Start(Options(certificate, trusted));

    private ListenOptions Options(X509Certificate2 certificate, X509Certificate2[] trusted) => new()
    {
        Address = IPAddress.Loopback,
        Port = 0,
        Certificate = certificate,
        TrustedFingerprints = [.. trusted.Select(HostCertificate.Fingerprint)],
        Rejected = _rejected.Add,
    };

    private ListenOptions Insecure(IPAddress address) =>
        new() { Address = address, Port = 0, InsecureLoopback = true, Rejected = _rejected.Add };

    private ListenOptions Unix(string path) => new() { UnixSocketPath = path, Rejected = _rejected.Add };

    private string Report() =>
        _rejected.TryTake(out string? report, Failsafe.Time) ? report : throw new TimeoutException("Nobody was rejected.");
}
