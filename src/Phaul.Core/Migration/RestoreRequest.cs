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

    /// <param name="process">What CRIU must be told of the tree.</param>
    /// <param name="images">The last directory of the chain, or what was made of it.</param>
    /// <param name="work">Where its log goes.</param>
    /// <param name="lazy">Leave the memory that can be late to a daemon that listens in the work directory.</param>
    public static CriuOpts ForRestore(ProcessOptions process, SafeFileHandle images, SafeFileHandle work, bool lazy)
    {
        var options = new CriuOpts
        {
            ImagesDirFd = (int)images.DangerousGetHandle(),
            WorkDirFd = (int)work.DangerousGetHandle(),
            LogFile = RestoreLog,
            NotifyScripts = true,
        };
        if (lazy)
            options.LazyPages = true;
        ProcessOptionsOnWire.Apply(process, options);
        return options;
    }
}
