// What CRIU is told about the tree, under the names that criu(8) gives its options.

using System.CommandLine;

namespace Phaul.Cli.Arguments;

/// <summary>The options that become <see cref="ProcessOptions"/>.</summary>
internal sealed class TreeArguments
{
    private static readonly ProcessOptions Defaults = new();

    private readonly Option<bool> _fileLocks = Flag("--file-locks", "Move file locks held by the tree");
    private readonly Option<bool> _tcpEstablished = Flag("--tcp-established", "Move established TCP connections; the destination must own the address");
    private readonly Option<bool> _tcpClose = Flag("--tcp-close", "Close established TCP connections on restore");
    private readonly Option<bool> _skipInFlight = Flag("--skip-in-flight", "Leave out connections that are not accepted yet");
    private readonly Option<bool> _externalUnixSockets = Flag("--ext-unix-sk", "Allow UNIX sockets connected to processes outside the tree");
    private readonly Option<bool> _shellJob = Flag("--shell-job", "The tree has a controlling terminal, or a session outside it");
    private readonly Option<bool> _linkRemap = Flag("--link-remap", "Link unlinked open files that have another name back for the move");
    private readonly Option<bool> _skipFileRwxCheck = Flag("--skip-file-rwx-check", "Do not check that permissions of open files are unchanged");
    private readonly Option<bool> _weakSysctls = Flag("--weak-sysctls", "Do not fail when sysctls differ");

    private readonly Option<long?> _ghostLimit = Quantities.Size("--ghost-limit", "The largest unlinked open file that is moved [default: 1M]");

    private readonly Option<CgroupMode> _manageCgroups = new("--manage-cgroups")
    {
        Description = "What to do about cgroups",
        DefaultValueFactory = _ => Defaults.ManageCgroups,
    };

    private readonly Option<NetworkLock> _networkLock = new("--network-lock")
    {
        Description = "How packets are blocked while connections are moved",
        DefaultValueFactory = _ => Defaults.NetworkLock,
    };

    private readonly Option<string?> _root = new("--root")
    {
        Description = "Restore in this root file system of the destination [default: the destination's own]",
        HelpName = "DIR",
    };

    private readonly Option<string[]> _external = new("--external")
    {
        Description = "An external resource, as criu(8) spells them. Can be given more than once",
        HelpName = "RESOURCE",
    };

    private readonly Option<int> _logLevel = Quantities.Number("--log-level", "Verbosity of CRIU's logs, 0 to 4", Defaults.LogLevel, 0, 4);

    private readonly Option<TimeSpan?> _criuTimeout = Quantities.Span("--criu-timeout", "CRIU's time limit for freezing the tree [default: 10s]");

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        Option[] options =
        [
            _fileLocks, _tcpEstablished, _tcpClose, _skipInFlight, _externalUnixSockets, _shellJob, _linkRemap, _ghostLimit, _manageCgroups,
            _root, _external, _networkLock, _skipFileRwxCheck, _weakSysctls, _logLevel, _criuTimeout,
        ];
        foreach (var option in options)
            command.Add(option);
    }

    /// <summary>Reads what was given.</summary>
    public ProcessOptions Read(ParseResult arguments) => new()
    {
        FileLocks = arguments.GetValue(_fileLocks),
        TcpEstablished = arguments.GetValue(_tcpEstablished),
        TcpClose = arguments.GetValue(_tcpClose),
        TcpSkipInFlight = arguments.GetValue(_skipInFlight),
        ExternalUnixSockets = arguments.GetValue(_externalUnixSockets),
        ShellJob = arguments.GetValue(_shellJob),
        LinkRemap = arguments.GetValue(_linkRemap),
        GhostLimit = (uint)Math.Min(arguments.GetValue(_ghostLimit) ?? Defaults.GhostLimit, uint.MaxValue),
        ManageCgroups = arguments.GetValue(_manageCgroups),
        Root = arguments.GetValue(_root),
        External = arguments.GetValue(_external) ?? [],
        NetworkLock = arguments.GetValue(_networkLock),
        SkipFileRwxCheck = arguments.GetValue(_skipFileRwxCheck),
        WeakSysctls = arguments.GetValue(_weakSysctls),
        LogLevel = arguments.GetValue(_logLevel),
        CriuTimeoutSeconds = (int)Math.Ceiling(arguments.GetValue(_criuTimeout)?.TotalSeconds ?? Defaults.CriuTimeoutSeconds),
    };

    private static Option<bool> Flag(string name, string description) => new(name) { Description = description };
}
