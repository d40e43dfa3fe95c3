// The processes of a restore that has not been acknowledged: to be killed when CRIU can no longer do it.
using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Criu;

/// <summary>
/// Everything below a CRIU process, by pidfd. Held at PostRestore, or before, CRIU is the tree's parent; once it is dead nothing
/// would tell them from other processes.
/// </summary>
internal sealed class UnfinishedTree : IDisposable
{
    private static readonly TimeSpan KillTimeout = TimeSpan.FromSeconds(10);

    private readonly List<ProcessDescriptor> _processes = [];

    private UnfinishedTree()
    {
    }

    /// <summary>Opens what is below CRIU now.</summary>
    /// <param name="criu">CRIU's pid.</param>
    /// <param name="sibling">The root of a tree that was made CRIU's sibling, a child of this process.</param>
    public static UnfinishedTree Below(int criu, int? sibling)
    {
        var children = ProcFileSystem.Host.ReadNumbers("").Select(pid => ProcStat.Read(ProcFileSystem.Host, pid)).OfType<ProcStat>()
            .ToLookup(stat => stat.ParentPid);
        var pending = new Queue<ProcStat>(children[criu]);
        foreach (var root in children[Environment.ProcessId].Where(stat => stat.Pid == sibling)) pending.Enqueue(root);
        var tree = new UnfinishedTree();
        while (pending.TryDequeue(out var stat))
        {
            tree.Add(stat);
            foreach (var child in children[stat.Pid]) pending.Enqueue(child);
        }
        return tree;
    }

    /// <summary>Kills them all.</summary>
    public void Kill() => _processes.ForEach(process => process.SendSignal(Libc.SignalKill));

    /// <summary>Kills them all and waits until they are dead.</summary>
    public async Task KillAsync()
    {
        Kill();
        try
        {
            await Task.WhenAll(_processes.Select(process => process.WaitForExitAsync(CancellationToken.None)))
                .WaitAsync(KillTimeout).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            // Stuck in the kernel: they die as soon as they leave it, and until then run no instruction.
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _processes.ForEach(process => process.Dispose());

    private void Add(ProcStat stat)
    {
        try
        {
            var process = ProcessDescriptor.Open(stat.Pid);
            // Looked at again with the pidfd in hand: the pid may have become another's in between.
            if (ProcStat.Read(ProcFileSystem.Host, stat.Pid)?.StartTime == stat.StartTime) _processes.Add(process);
            else process.Dispose();
        }
        catch (NativeException exception) when (exception.Errno == Libc.Esrch)
        {
            // It has ended on its own.
        }
    }
}
