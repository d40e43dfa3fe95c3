// What CRIU is told on the destination: page servers and the restore.

using Microsoft.Win32.SafeHandles;
using Phaul.Criu;
using Phaul.Criu.Rpc;

namespace Phaul;

/// <summary>Makes the options of page-server and restore requests.</summary>
internal static class RestoreRequest
{
    public const string PageServerLog = "page-server.log";
    public const string RestoreLog = "restore.log";

    public static CriuOpts ForPageServer(PhaulConfig config, CriuClient criu, SafeFileHandle images, string? parent)
    {
        var options = new CriuOpts
        {
            ImagesDirFd = (int)images.DangerousGetHandle(),
            LogLevel = config.Options.LogLevel,
            LogFile = PageServerLog,
            Ps = new PageServerInfo { Fd = criu.MemoryDescriptor },
        };
        if (parent is not null)
            options.ParentImg = parent;
        if (config.AutoDedup)
            options.AutoDedup = true;
        return options;
    }

    public static CriuOpts ForRestore(ProcessOptions process, SafeFileHandle images)
    {
        var options = new CriuOpts
        {
            ImagesDirFd = (int)images.DangerousGetHandle(),
            LogFile = RestoreLog,
            NotifyScripts = true,
        };
        ProcessOptionsOnWire.Apply(process, options);
        return options;
    }
}
