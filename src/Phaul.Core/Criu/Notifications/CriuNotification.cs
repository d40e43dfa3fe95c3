// What CRIU tells during a dump or a restore, and waits to have acknowledged.
using Microsoft.Win32.SafeHandles;
using Phaul.Criu.Rpc;

namespace Phaul.Criu;

/// <summary>The moments that CRIU tells of.</summary>
public enum CriuNotificationKind
{
    /// <summary>One that this library does not know; see <see cref="CriuNotification.Script"/>.</summary>
    Other,

    /// <summary>The dump begins.</summary>
    PreDump,

    /// <summary>The images are complete and the tree is frozen. Refused, the tree runs on; acknowledged, it is killed.</summary>
    PostDump,

    /// <summary>The restore begins.</summary>
    PreRestore,

    /// <summary>The tree exists and has not run an instruction. Refused, it is killed; acknowledged, it runs.</summary>
    PostRestore,

    /// <summary>The network is about to be locked.</summary>
    NetworkLock,

    /// <summary>The network is about to be unlocked. Refusing has no effect.</summary>
    NetworkUnlock,

    /// <summary>The root task's namespaces exist.</summary>
    SetupNamespaces,

    /// <summary>The root task's namespaces are restored.</summary>
    PostSetupNamespaces,

    /// <summary>The tree is about to run.</summary>
    PreResume,

    /// <summary>The tree runs. Refusing has no effect.</summary>
    PostResume,

    /// <summary>A page server or lazy dump is ready to be connected to.</summary>
    StatusReady,

    /// <summary>The master of a terminal that the tree uses comes in <see cref="CriuNotification.Descriptor"/>.</summary>
    OrphanPtsMaster,

    /// <summary>CRIU asks for further external resources: see <see cref="CriuNotification.External"/>.</summary>
    QueryExternalFiles,
}

/// <summary>One notification, held until its handler returns.</summary>
public sealed class CriuNotification
{
    internal CriuNotification(CriuNotify? notify, SafeFileHandle? descriptor)
    {
        Script = notify?.Script ?? "";
        Pid = notify is { HasPid: true } ? notify.Pid : null;
        Descriptor = descriptor;
        Kind = Script switch
        {
            "pre-dump" => CriuNotificationKind.PreDump,
            "post-dump" => CriuNotificationKind.PostDump,
            "pre-restore" => CriuNotificationKind.PreRestore,
            "post-restore" => CriuNotificationKind.PostRestore,
            "network-lock" => CriuNotificationKind.NetworkLock,
            "network-unlock" => CriuNotificationKind.NetworkUnlock,
            "setup-namespaces" => CriuNotificationKind.SetupNamespaces,
            "post-setup-namespaces" => CriuNotificationKind.PostSetupNamespaces,
            "pre-resume" => CriuNotificationKind.PreResume,
            "post-resume" => CriuNotificationKind.PostResume,
            "status-ready" => CriuNotificationKind.StatusReady,
            "orphan-pts-master" => CriuNotificationKind.OrphanPtsMaster,
            "query-ext-files" => CriuNotificationKind.QueryExternalFiles,
            _ => CriuNotificationKind.Other,
        };
    }

    /// <summary>What happens.</summary>
    public CriuNotificationKind Kind { get; }

    /// <summary>CRIU's own name for it.</summary>
    public string Script { get; }

    /// <summary>The root task's pid as CRIU sees it, with SetupNamespaces and PostRestore.</summary>
    public int? Pid { get; }

    /// <summary>A descriptor that came with it. It is closed when the handler returns: duplicate it to keep it.</summary>
    public SafeFileHandle? Descriptor { get; }

    /// <summary>For QueryExternalFiles: what a handler adds here is added to CRIU's external resources.</summary>
    public IList<string> External { get; } = [];

    /// <summary>Whether CRIU takes a refusal to heart; the others only tell of what happens anyway.</summary>
    public bool CanRefuse => Kind is not (CriuNotificationKind.NetworkUnlock or CriuNotificationKind.PostResume);

    // From here on CRIU goes to its end within moments, and giving up would only lose the answer.
    internal bool IsPointOfNoReturn => Kind is CriuNotificationKind.PostDump or CriuNotificationKind.PostRestore;
}
