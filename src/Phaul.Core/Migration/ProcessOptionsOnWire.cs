// ProcessOptions in the two languages it is spoken in: CRIU's RPC, and Phaul's own control messages.

using Phaul.Criu.Rpc;
using Phaul.Wire;

namespace Phaul;

/// <summary>Translates <see cref="ProcessOptions"/>.</summary>
internal static class ProcessOptionsOnWire
{
    public static void Apply(ProcessOptions from, CriuOpts to)
    {
        to.LogLevel = from.LogLevel;
        to.FileLocks = from.FileLocks;
        to.TcpEstablished = from.TcpEstablished;
        to.TcpClose = from.TcpClose;
        to.TcpSkipInFlight = from.TcpSkipInFlight;
        to.ExtUnixSk = from.ExternalUnixSockets;
        to.ShellJob = from.ShellJob;
        to.LinkRemap = from.LinkRemap;
        to.GhostLimit = from.GhostLimit;
        to.SkipFileRwxCheck = from.SkipFileRwxCheck;
        to.WeakSysctls = from.WeakSysctls;
        to.ManageCgroupsMode = from.ManageCgroups switch
        {
            CgroupMode.Ignore => CriuCgroupMode.Ignore,
            CgroupMode.None => CriuCgroupMode.None,
            CgroupMode.Props => CriuCgroupMode.Properties,
            CgroupMode.Soft => CriuCgroupMode.Soft,
            CgroupMode.Full => CriuCgroupMode.Full,
            CgroupMode.Strict => CriuCgroupMode.Strict,
            _ => throw new ArgumentOutOfRangeException(nameof(from), from.ManageCgroups, "Unknown treatment of cgroups."),
        };
        to.NetworkLock = from.NetworkLock switch
        {
            NetworkLock.Nftables => CriuNetworkLockMethod.Nftables,
            NetworkLock.Iptables => CriuNetworkLockMethod.Iptables,
            NetworkLock.Skip => CriuNetworkLockMethod.Skip,
            _ => throw new ArgumentOutOfRangeException(nameof(from), from.NetworkLock, "Unknown way to lock the network."),
        };
        if (from.Root is { Length: > 0 } root)
            to.Root = root;
        to.External.AddRange(from.External);
    }

    public static RestoreOptions ToMessage(ProcessOptions options)
    {
        var message = new RestoreOptions
        {
            FileLocks = options.FileLocks,
            TcpEstablished = options.TcpEstablished,
            TcpClose = options.TcpClose,
            TcpSkipInFlight = options.TcpSkipInFlight,
            ExternalUnixSockets = options.ExternalUnixSockets,
            ShellJob = options.ShellJob,
            LinkRemap = options.LinkRemap,
            GhostLimit = options.GhostLimit,
            ManageCgroups = options.ManageCgroups.ToString(),
            Root = options.Root ?? "",
            NetworkLock = options.NetworkLock.ToString(),
            SkipFileRwxCheck = options.SkipFileRwxCheck,
            WeakSysctls = options.WeakSysctls,
            LogLevel = options.LogLevel,
        };
        message.External.AddRange(options.External);
        return message;
    }

    /// <exception cref="PhaulException">The peer sent something that is no such option.</exception>
    public static ProcessOptions FromMessage(RestoreOptions message) => new()
    {
        FileLocks = message.FileLocks,
        TcpEstablished = message.TcpEstablished,
        TcpClose = message.TcpClose,
        TcpSkipInFlight = message.TcpSkipInFlight,
        ExternalUnixSockets = message.ExternalUnixSockets,
        ShellJob = message.ShellJob,
        LinkRemap = message.LinkRemap,
        GhostLimit = message.GhostLimit,
        ManageCgroups = WireEnum.Parse<CgroupMode>(message.ManageCgroups),
        Root = message.Root.Length > 0 ? message.Root : null,
        NetworkLock = WireEnum.Parse<NetworkLock>(message.NetworkLock),
        SkipFileRwxCheck = message.SkipFileRwxCheck,
        WeakSysctls = message.WeakSysctls,
        LogLevel = Math.Clamp(message.LogLevel, 0, 4),
        External = message.External.ToArray(),
    };
}
