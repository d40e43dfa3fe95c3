// The first exchange on a connection: both sides say who they are and agree on a protocol version, or part with a reason.

using System.Globalization;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Text;
using Google.Protobuf;
using Phaul.Transport.Wire;

namespace Phaul.Transport;

internal static class HelloExchange
{
    public const int LowestVersion = 1;
    public const int HighestVersion = 1;

    // "PHAUL\0\r\n"
    private const ulong Magic = 0x0A0D_004C_5541_4850;
    private const int MaxCapabilities = 64;
    private const int MaxText = 256;

    /// <summary>What the exchange settled.</summary>
    public sealed record Outcome(PeerInfo Peer, int Window, TimeSpan PeerTimeout)
    {
        /// <summary>The secret of both sides, if both want sealed records.</summary>
        public byte[]? Secret { get; init; }
    }

    /// <summary>Sends Hello and awaits the answer.</summary>
    public static async Task<Outcome> InitiateAsync(
        Stream stream, Link link, ConnectionOptions options, CancellationToken cancellationToken)
    {
        HelloReply reply;
        Hello self = Describe(options, link);
        try
        {
            await SendAsync(stream, FrameKind.Hello, self, cancellationToken).ConfigureAwait(false);
            reply = await ReceiveAsync(stream, FrameKind.HelloReply, HelloReply.Parser, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (IsBreak(exception))
        {
            throw Broken(link, exception);
        }

        if (reply.Refusal is { } refusal)
        {
            string text = Printable(refusal.Text, 1024);
            if (refusal.Reason == Refusal.Types.Reason.Authentication)
            {
                throw new PhaulException(PhaulErrorId.AuthenticationFailed, $"{link.Name} refused this host: {text}.")
                {
                    Host = link.Name,
                    RecommendedAction = link.OwnFingerprint is { } own ? $"On {link.Name}, trust the fingerprint {own}." : null,
                };
            }

            if (refusal.Reason != Refusal.Types.Reason.Version || reply.Self is null)
                throw new PhaulException(PhaulErrorId.ProtocolError, $"{link.Name} refused the connection: {text}.") { Host = link.Name };
        }

        Hello peer = Check(reply.Self ?? new Hello());
        int version = Agree(peer, options) ?? throw NoCommonVersion(link, peer, options);
        if (reply.Version != version)
            throw FrameHeader.Violation($"protocol version {reply.Version} where {version} is the highest common one");
        return Settle(peer, version, link) with { Secret = Secret(self, peer) };
    }

    /// <summary>Awaits Hello and answers it.</summary>
    public static async Task<Outcome> AnswerAsync(Stream stream, Link link, ConnectionOptions options, CancellationToken cancellationToken)
    {
        Hello peer;
        try
        {
            peer = Check(await ReceiveAsync(stream, FrameKind.Hello, Hello.Parser, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception exception) when (IsBreak(exception))
        {
            throw Broken(link, exception);
        }

        var reply = new HelloReply { Self = Describe(options, link) };
        if (Agree(peer, options) is not { } version)
        {
            PhaulException refused = NoCommonVersion(link, peer, options);
            reply.Refusal = new Refusal { Reason = Refusal.Types.Reason.Version, Text = "no common protocol version" };
            await SendAsync(stream, FrameKind.HelloReply, reply, cancellationToken).ConfigureAwait(false);
            throw refused;
        }

        reply.Version = (uint)version;
        await SendAsync(stream, FrameKind.HelloReply, reply, cancellationToken).ConfigureAwait(false);
        return Settle(peer, version, link) with { Secret = Secret(peer, reply.Self) };
    }

    /// <summary>Tells a peer that its certificate is not accepted, before anything it sent is looked at.</summary>
    public static Task RefuseAsync(Stream stream, PeerRejection rejection, CancellationToken cancellationToken)
    {
        var reply = new HelloReply
        {
            Refusal = new Refusal { Reason = Refusal.Types.Reason.Authentication, Text = rejection.ToldToPeer },
        };
        return SendAsync(stream, FrameKind.HelloReply, reply, cancellationToken);
    }

    private static Hello Describe(ConnectionOptions options, Link link) => new()
    {
        Magic = Magic,
        LowestVersion = (uint)options.LowestVersion,
        HighestVersion = (uint)options.HighestVersion,
        Capabilities = { options.Capabilities },
        HostName = options.HostName ?? ThisHost.HostName,
        PhaulVersion = ThisHost.PhaulVersion,
        Architecture = ThisHost.Architecture,
        KernelRelease = ThisHost.KernelRelease,
        BootId = ThisHost.BootId,
        PeerTimeoutMilliseconds = (uint)options.PeerTimeout.TotalMilliseconds,
        Window = (uint)options.Window,
        Seal = link.PeerFingerprint is not null && SealedStream.IsSupported
            ? ByteString.CopyFrom(RandomNumberGenerator.GetBytes(SealedStream.ContributionSize))
            : ByteString.Empty,
    };

    private static byte[]? Secret(Hello initiator, Hello responder) =>
        initiator.Seal.IsEmpty || responder.Seal.IsEmpty ? null : [.. initiator.Seal, .. responder.Seal];

    private static Hello Check(Hello hello)
    {
        if (hello.Magic != Magic)
            throw new PhaulException(PhaulErrorId.ProtocolError, "The peer does not speak Phaul's protocol.");
        if (hello.LowestVersion == 0 || hello.HighestVersion < hello.LowestVersion)
            throw FrameHeader.Violation($"the protocol versions {hello.LowestVersion} to {hello.HighestVersion}");
        if (hello.Capabilities.Count > MaxCapabilities)
            throw FrameHeader.Violation($"{hello.Capabilities.Count} capabilities, where {MaxCapabilities} are allowed");
        if (hello.Window is < ConnectionOptions.LeastWindow or > ConnectionOptions.LargestWindow)
            throw FrameHeader.Violation($"a window of {hello.Window} bytes");
        if (hello.Seal.Length is not (0 or SealedStream.ContributionSize))
            throw FrameHeader.Violation($"{hello.Seal.Length} bytes of a secret");
        if (hello.PeerTimeoutMilliseconds == 0)
            throw FrameHeader.Violation("a peer time-out of nothing");
        return hello;
    }

    private static int? Agree(Hello peer, ConnectionOptions options)
    {
        long version = Math.Min(peer.HighestVersion, (uint)options.HighestVersion);
        return version >= peer.LowestVersion && version >= options.LowestVersion ? (int)version : null;
    }

    private static Outcome Settle(Hello peer, int version, Link link) => new(
        new PeerInfo
        {
            Address = link.Name,
            HostName = Printable(peer.HostName, MaxText),
            PhaulVersion = Printable(peer.PhaulVersion, MaxText),
            ProtocolVersion = version,
            Capabilities = [.. peer.Capabilities.Select(capability => Printable(capability, 64))],
            Architecture = Printable(peer.Architecture, MaxText),
            KernelRelease = Printable(peer.KernelRelease, MaxText),
            BootId = Printable(peer.BootId, MaxText),
            Fingerprint = link.PeerFingerprint,
        },
        (int)peer.Window,
        TimeSpan.FromMilliseconds(peer.PeerTimeoutMilliseconds));

    private static PhaulException NoCommonVersion(Link link, Hello peer, ConnectionOptions options) => new(
        PhaulErrorId.ProtocolError,
        $"No common protocol version: this side (Phaul {ThisHost.PhaulVersion}) speaks {options.LowestVersion} to "
        + $"{options.HighestVersion}, "
        + $"{link.Name} (Phaul {Printable(peer.PhaulVersion, MaxText)}) speaks {peer.LowestVersion} to {peer.HighestVersion}.")
    {
        Host = link.Name,
        RecommendedAction = "Bring both hosts to the same version of Phaul.",
    };

    private static bool IsBreak(Exception exception) => exception is IOException or AuthenticationException or EndOfStreamException;

    // A peer that does not like our certificate can only hang up: in TLS 1.3 that shows at the first read.
    private static PhaulException Broken(Link link, Exception cause)
    {
        if (link.OwnFingerprint is not { } own)
        {
            return new PhaulException(PhaulErrorId.ConnectionLost, $"{link.Name} closed the connection before it said hello.", cause)
            {
                Host = link.Name,
                RecommendedAction = "If the other side expects TLS, connect with a certificate.",
            };
        }

        return new PhaulException(
            PhaulErrorId.AuthenticationFailed,
            $"{link.Name} ended the connection right after the TLS handshake; most likely it does not trust this host's certificate, "
            + $"whose SHA-256 fingerprint is {own}.",
            cause)
        {
            Host = link.Name,
            RecommendedAction = $"On {link.Name}, trust the fingerprint {own}.",
        };
    }

    private static async Task SendAsync(Stream stream, FrameKind kind, IMessage message, CancellationToken cancellationToken)
    {
        int length = message.CalculateSize();
        var frame = new byte[FrameHeader.Size + length];
        new FrameHeader(ChannelId.Control, kind, length).Write(frame);
        message.WriteTo(frame.AsSpan(FrameHeader.Size));
        await stream.WriteAsync(frame, cancellationToken).ConfigureAwait(false);
        await stream.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    private static async Task<T> ReceiveAsync<T>(
        Stream stream, FrameKind kind, MessageParser<T> parser, CancellationToken cancellationToken)
        where T : IMessage<T>
    {
        var bytes = new byte[FrameHeader.Size];
        await stream.ReadExactlyAsync(bytes, cancellationToken).ConfigureAwait(false);
        if (bytes[0] is 0x15 or 0x16 && bytes[1] == 3)
            throw new PhaulException(PhaulErrorId.ProtocolError, "The peer speaks TLS where this side expects none.");
        FrameHeader header = FrameHeader.Parse(bytes);
        if (header.Kind != kind)
            throw FrameHeader.Violation($"a frame of kind {header.Kind} where {kind} was due");
        var content = new byte[header.Length];
        await stream.ReadExactlyAsync(content, cancellationToken).ConfigureAwait(false);
        try
        {
            return parser.ParseFrom(content);
        }
        catch (InvalidProtocolBufferException exception)
        {
            throw new PhaulException(PhaulErrorId.ProtocolError, $"The peer sent a {kind} that cannot be read.", exception);
        }
    }

    /// <summary>What a peer wrote, fit to be shown on a terminal.</summary>
    internal static string Printable(string text, int limit)
    {
        var result = new StringBuilder(Math.Min(text.Length, limit));
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (result.Length >= limit)
                break;
            bool hidden = Rune.IsControl(rune) || Rune.GetUnicodeCategory(rune) == UnicodeCategory.Format;
            result.Append(hidden ? "?" : rune.ToString());
        }

        return result.ToString();
    }
}

/// <summary>What the carrier knows of a link before Hello.</summary>
/// <param name="Name">The peer's address, for people.</param>
/// <param name="OwnFingerprint">The certificate this side presented; null without TLS.</param>
/// <param name="PeerFingerprint">The certificate that the peer presented and that was accepted; null without TLS.</param>
internal sealed record Link(string Name, string? OwnFingerprint = null, string? PeerFingerprint = null);
