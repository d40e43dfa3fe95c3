// What CRIU is told on the source: ProcessOptions as the options of a dump.

using Microsoft.Win32.SafeHandles;
using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Procfs;

namespace Phaul;

/// <summary>Makes the options of pre-dump and dump requests.</summary>
internal static class DumpRequest
{
    /// <summary>
    /// The options that both hosts go by. A tree in this host's own network has nothing locked where no established connection is
    /// moved, but CRIU would take 15 ms of the frozen time to unlock it; a network of its own is locked as a whole.
    /// </summary>
    public static ProcessOptions OptionsOf(MigrationRequest request) =>
        request.Options is { TcpEstablished: false, NetworkLock: NetworkLock.Nftables } && SharesNetwork(request.Pid)
            ? request.Options with { NetworkLock = NetworkLock.Skip }
            : request.Options;

    private static bool SharesNetwork(int pid) =>
        ProcFileSystem.Host.ReadLink($"{pid}/ns/net") is { } network && network == ProcFileSystem.Host.ReadLink("self/ns/net");

    public const string PreDumpLog = "pre-dump.log";
    public const string DumpLog = "dump.log";

    public static CriuOpts ForPreDump(PhaulConfig config, CriuClient criu, SafeFileHandle images, string? parent)
    {
        var options = Common(config, criu, images, parent);
        options.LogFile = PreDumpLog;
        options.TrackMem = true;
        return options;
    }

    public static CriuOpts ForDump(PhaulConfig config, CriuClient criu, SafeFileHandle images, string? parent)
    {
        var options = Common(config, criu, images, parent);
        options.LogFile = DumpLog;
        options.NotifyScripts = true;
        // Tracking without a parent would fail where the kernel has none; with one, the dump must look at what is dirty.
        if (parent is not null)
            options.TrackMem = true;
        return options;
    }

    /// <summary>
    /// Of a dump whose lazy pages are asked for afterwards. CRIU takes its page server's socket from the RPC only for what it sends
    /// by itself (criu/cr-service.c); a configuration file may name one here as well. Left running: the death of the tree is the
    /// hand-over's affair, and a CRIU whose socket is closed would otherwise kill the tree, whoever closed it.
    /// </summary>
    /// <exception cref="IOException">The configuration file cannot be written.</exception>
    public static CriuOpts ForLateDump(PhaulConfig config, CriuClient criu, SafeFileHandle images, string? parent)
    {
        var options = ForDump(config, criu, images, parent);
        options.Ps = null;
        options.LazyPages = true;
        options.LeaveRunning = true;
        options.ConfigFile = Path.Combine(config.WorkDirectory, "criu.conf");
        File.WriteAllText(options.ConfigFile, $"ps-socket {PhaulConfig.LateDescriptor}\n");
        return options;
    }

    private static CriuOpts Common(PhaulConfig config, CriuClient criu, SafeFileHandle images, string? parent)
    {
        var options = new CriuOpts
        {
            Pid = config.Pid,
            ImagesDirFd = (int)images.DangerousGetHandle(),
        };
        if (criu.Options.MemorySocket is not null)
            options.Ps = new PageServerInfo { Fd = criu.MemoryDescriptor };
        ProcessOptionsOnWire.Apply(config.Options, options);
        options.Timeout = (uint)config.Options.CriuTimeoutSeconds;
        if (parent is not null)
            options.ParentImg = parent;
        return options;
    }
}
