// The lock that tells a running migration's journal from a dead one's, and who holds it.

using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Phaul.Native;

namespace Phaul.Journal;

/// <summary>Who writes a journal, for people: the lock, not this, tells whether the writer lives.</summary>
/// <param name="Pid">The writer's pid, in its own pid namespace.</param>
/// <param name="StartTimeTicks">Its start, in clock ticks since boot.</param>
/// <param name="BootId">The boot of its host.</param>
public sealed record JournalWriter(int Pid, long StartTimeTicks, string BootId)
{
    /// <summary>This process.</summary>
    public static JournalWriter Current() => new(
        Environment.ProcessId, (long)(ProcessIdentity.StartTime(Environment.ProcessId) ?? 0), ProcessIdentity.BootId().ToString());
}

/// <summary>
/// A write lock on the whole journal that belongs to the open file description (fcntl F_OFD_SETLK): the kernel drops it when the
/// writer dies, however it dies. Not flock, for two reasons: it can be asked for (F_OFD_GETLK) without being taken, so that looking
/// never stands in a writer's way; and .NET takes a shared flock on every file that it opens, so that an exclusive flock held by the
/// writer would shut out Get-Content and every other .NET reader.
/// </summary>
internal static unsafe class WriterLock
{
    /// <summary>Takes the lock for as long as the file, which is open for writing, stays open.</summary>
    /// <returns>False if another writer has it.</returns>
    /// <exception cref="NativeException">The file system has no such locks.</exception>
    public static bool TryTake(SafeFileHandle file)
    {
        var wholeFile = new Libc.RecordLock { Type = Libc.LockTypeWrite };
        if (Libc.Fcntl(file, Libc.SetDescriptionLock, &wholeFile) == 0)
            return true;
        var errno = Marshal.GetLastPInvokeError();
        return errno is Libc.Eacces or Libc.Eagain ? false : throw new NativeException("fcntl(F_OFD_SETLK)", errno);
    }

    /// <summary>
    /// Gives the lock back. Closing the file is not enough: a child that another thread has just forked has the open file description,
    /// and so the lock, until it executes its program.
    /// </summary>
    public static void Release(SafeFileHandle file)
    {
        var wholeFile = new Libc.RecordLock { Type = Libc.LockTypeNone };
        // It fails where there are no such locks, and none was taken; and the last descriptor ends it in any case.
        _ = Libc.Fcntl(file, Libc.SetDescriptionLock, &wholeFile);
    }

    /// <summary>Whether a writer has the lock. Takes nothing.</summary>
    /// <exception cref="NativeException">The file system has no such locks.</exception>
    public static bool IsHeld(SafeFileHandle file)
    {
        var wholeFile = new Libc.RecordLock { Type = Libc.LockTypeWrite };
        Libc.Check(Libc.Fcntl(file, Libc.GetDescriptionLock, &wholeFile), "fcntl(F_OFD_GETLK)");
        return wholeFile.Type != Libc.LockTypeNone;
    }
}
