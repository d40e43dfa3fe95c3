// Helpers that an earlier process of Phaul has left, found by what they say of themselves.

using Phaul.Native;
using Phaul.Procfs;

namespace Phaul.Engines;

/// <summary>Ends processes that nobody owns any more.</summary>
internal static class LeftProcesses
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(30);

    /// <summary>Kills those of which it is true, and sees them end. With one that leads a session goes all that is in it.</summary>
    /// <param name="isOne">Told a pid, which may be nobody's by then.</param>
    /// <returns>How many were ended.</returns>
    public static async Task<int> EndAsync(Func<int, bool> isOne)
    {
        int ended = 0;
        foreach (int pid in ProcFileSystem.Host.ReadNumbers("").Where(isOne))
        {
            try
            {
                using var descriptor = ProcessDescriptor.Open(pid);
                // Looked at again with the pidfd in hand: it is the one that is killed
                if (!isOne(pid) || !descriptor.SendSignal(0))
                    continue;
                if (ProcStat.Read(ProcFileSystem.Host, pid)?.SessionId == pid)
                    Libc.Kill(-pid, Libc.SignalKill);
                else
                    descriptor.SendSignal(Libc.SignalKill);
                await descriptor.WaitForExitAsync(CancellationToken.None).WaitAsync(EndLimit).ConfigureAwait(false);
                ended++;
            }
            catch (Exception exception) when (exception is NativeException or TimeoutException)
            {
                // It has just ended, or is on its way out.
            }
        }

        return ended;
    }
}
