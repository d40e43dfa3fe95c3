// What recovery needs to know of the hand-over: which processes, which images, and how far the commit had come.

using System.Text.Json;

namespace Phaul.Journal;

/// <summary>A process that cannot be mistaken for a later one with the same pid.</summary>
/// <param name="Pid">Its pid, as this host sees it.</param>
/// <param name="StartTimeTicks">Its start, in clock ticks since boot (<c>/proc/PID/stat</c>, field 22).</param>
/// <param name="Command">Its command name, for people.</param>
public sealed record JournaledProcess(int Pid, long StartTimeTicks, string? Command = null);

/// <summary>Source: every process of the tree. Its death is the commit, so this is what recovery looks for.</summary>
/// <param name="BootId">The boot of the host in which these start times count (<c>/proc/sys/kernel/random/boot_id</c>).</param>
/// <param name="Processes">All processes of the tree, the root first.</param>
public sealed record TreeIdentity(string BootId, IReadOnlyList<JournaledProcess> Processes) : JournalRecord;

/// <summary>Where this side keeps the migration's images and logs.</summary>
/// <param name="Directory">An absolute path.</param>
public sealed record ImagesPlace(string Directory) : JournalRecord;

/// <summary>Destination: the restored tree exists and is held; or, after a resolution, exists again.</summary>
/// <param name="RootPid">The root pid here.</param>
/// <param name="BootId">The boot of this host in which the start times count.</param>
/// <param name="Processes">All restored processes.</param>
/// <param name="ImagesDirectory">The directory of the last image of the chain: what a second restore starts from.</param>
/// <param name="RestoreOptions">What else a second restore needs, as its writer likes; null if nothing.</param>
public sealed record Prepared(
    int RootPid, string BootId, IReadOnlyList<JournaledProcess> Processes, string ImagesDirectory, JsonElement? RestoreOptions = null)
    : JournalRecord;

/// <summary>
/// Destination: CRIU is about to be told to let the tree run. What runs afterwards is that tree: unless it is found still held,
/// nobody may restore it a second time, also when it is gone by then.
/// </summary>
public sealed record Resuming : JournalRecord;

/// <summary>Destination: the tree of the last <see cref="Prepared"/> was found never to have run, and to be lost: it may be restored again.</summary>
public sealed record NeverRan : JournalRecord;

/// <summary>Who the other host is, and on the source how it is reached: what settling needs after a crash.</summary>
/// <param name="Name">Its host name, as it said.</param>
/// <param name="Address">The address it was reached by, or came from.</param>
/// <param name="Fingerprint">The fingerprint of its certificate; null without TLS.</param>
/// <param name="Endpoint">Source: where its server listens; null on the destination.</param>
public sealed record PeerMet(string Name, string Address, string? Fingerprint, PeerEndpoint? Endpoint = null) : JournalRecord;

/// <summary>Where a destination's server listens. Certificates are not journalled: only how they were used.</summary>
/// <param name="Host">Host name or address; null with a UNIX socket.</param>
/// <param name="Port">The TCP port.</param>
/// <param name="UnixSocketPath">A UNIX socket on the source's own machine; null with TCP.</param>
/// <param name="InsecureLoopback">Neither TLS nor authentication.</param>
public sealed record PeerEndpoint(string? Host, int Port, string? UnixSocketPath, bool InsecureLoopback);

/// <summary>Source: the program runs on here, but the destination could not be told. It may hold a copy until it is.</summary>
public sealed record PeerUntold : JournalRecord;

/// <summary>Source: the destination has confirmed how the migration ended.</summary>
public sealed record PeerTold : JournalRecord;

/// <summary>
/// Source: the destination is prepared, and the tree is about to be killed. After this only the tree itself tells whether it was.
/// </summary>
public sealed record CommitIntent : JournalRecord;

/// <summary>Source: an engine of the caller's own takes the last step. What becomes of a tree that is gone is known to it alone.</summary>
public sealed record EngineOfOwn : JournalRecord;

/// <summary>Source: every process of the tree was seen to be gone. There is no way back.</summary>
/// <param name="PagesStillServed">
/// Memory is still only here and being served (PostCopy): until <see cref="MemoryComplete"/> this side is needed.
/// </param>
public sealed record TreeGone(bool PagesStillServed = false) : JournalRecord;

/// <summary>
/// Destination: until <see cref="MemoryComplete"/> the tree gets memory from this process, and stands still where it has none yet
/// if this process ends.
/// </summary>
/// <param name="FromSource">This process has not got it either: it comes from the source (PostCopy, Hybrid), and with the source it is lost.</param>
public sealed record MemoryServed(bool FromSource = false) : JournalRecord;

/// <summary>
/// Destination: whoever gave the tree its memory is gone. What ran of it is about to be killed, and restored again from its images.
/// </summary>
public sealed record MemoryLost : JournalRecord;

/// <summary>The program has all its memory on the destination.</summary>
public sealed record MemoryComplete : JournalRecord;
