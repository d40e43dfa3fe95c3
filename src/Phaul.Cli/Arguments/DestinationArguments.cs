// How a source reaches a destination: host and port, or a UNIX socket, and who the two are.

using System.CommandLine;

namespace Phaul.Cli.Arguments;

/// <summary>HOST, --port, --unix, the options of <see cref="PeerArguments"/>, --connect-timeout.</summary>
internal sealed class DestinationArguments
{
    private readonly Argument<string?> _host = new("HOST")
    {
        Description = "Name or address of the destination, where `phaul serve` runs",
        Arity = ArgumentArity.ZeroOrOne,
    };

    private readonly Option<int> _port = Quantities.Number("--port", "Its TCP port", MigrationEndpoint.DefaultPort, 1, 65535);

    private readonly Option<string?> _unix = new("--unix") { Description = "A UNIX socket on this machine instead of HOST", HelpName = "PATH" };
    private readonly PeerArguments _peers = new();

    /// <summary>Adds them to a command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="required">Whether a destination must be named.</param>
    public void AddTo(Command command, bool required)
    {
        command.Add(_host);
        command.Add(_port);
        command.Add(_unix);
        _peers.AddTo(command);
        command.Validators.Add(result =>
        {
            var (host, unix) = (result.GetValue(_host), result.GetValue(_unix));
            if (host is not null && unix is not null)
                result.AddError("HOST and --unix exclude each other.");
            if (required && host is null && unix is null)
                result.AddError("A destination is needed: HOST or --unix.");
        });
    }

    /// <summary>Whether a destination was named.</summary>
    public bool IsGiven(ParseResult arguments) => arguments.GetValue(_host) is not null || arguments.GetValue(_unix) is not null;

    /// <summary>Reads who the two are; the caller disposes it when the certificate is not needed any more.</summary>
    public Peers ReadPeers(ParseResult arguments) => _peers.Read(arguments, overTcp: arguments.GetValue(_unix) is null);

    /// <summary>Reads where to.</summary>
    public MigrationEndpoint Read(ParseResult arguments, Peers peers) => new()
    {
        Host = arguments.GetValue(_host),
        Port = arguments.GetValue(_port),
        UnixSocketPath = arguments.GetValue(_unix),
        Certificate = peers.Certificate,
        TrustedFingerprints = peers.TrustedFingerprints,
        InsecureLoopback = peers.InsecureLoopback,
    };
}
