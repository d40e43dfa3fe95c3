// A pidfd: one process, for sure the same one for as long as it is held.
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>Refers to one process, and never to a later one that got the same pid.</summary>
internal sealed unsafe class ProcessDescriptor : SafeHandleZeroOrMinusOneIsInvalid
{
    private ProcessDescriptor(int pid, int descriptor)
        : base(ownsHandle: true)
    {
        Pid = pid;
        SetHandle(descriptor);
    }

    /// <summary>The pid that it was opened by.</summary>
    public int Pid { get; }

    /// <summary>Whether the process has ended (it may still be a zombie).</summary>
    /// <exception cref="NativeException">The descriptor cannot be asked.</exception>
    public bool HasExited
    {
        get
        {
            // The number may be another's by now
            ObjectDisposedException.ThrowIf(IsClosed, this);
            // Signal 0 still reaches a zombie: readiness is what tells the end.
            var poll = new Libc.PollEntry { Descriptor = (int)handle, Events = Libc.PollIn };
            return Libc.Check(Libc.Poll(&poll, 1, 0), "poll(pidfd)") > 0;
        }
    }

    /// <summary>Opens a process by its pid (a thread group leader).</summary>
    /// <exception cref="NativeException">There is no such process (ESRCH), or the kernel is older than 5.3.</exception>
    public static ProcessDescriptor Open(int pid) => new(pid, Libc.Check(Libc.PidfdOpen(pid, 0), $"pidfd_open({pid})"));

    /// <summary>The same; null if there is no such process.</summary>
    /// <exception cref="NativeException">The kernel is older than 5.3, or no descriptor can be had.</exception>
    public static ProcessDescriptor? TryOpen(int pid)
    {
        try
        {
            return Open(pid);
        }
        catch (NativeException exception) when (exception.Errno is Libc.Esrch or Libc.Enoent or Libc.Einval)
        {
            // ENOENT and EINVAL: the pid is that of a mere thread by now
            return null;
        }
    }

    /// <summary>Completes when the process has ended.</summary>
    public Task WaitForExitAsync(CancellationToken cancellationToken) => DescriptorWaiter.WaitReadableAsync(this, cancellationToken);

    /// <summary>Sends a signal.</summary>
    /// <returns>False if the process is already gone.</returns>
    /// <exception cref="NativeException">It may not be signalled.</exception>
    public bool SendSignal(int signal)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        if (Libc.PidfdSendSignal((int)handle, signal) >= 0) return true;
        return Marshal.GetLastPInvokeError() == Libc.Esrch ? false : throw Libc.Failure($"pidfd_send_signal({Pid}, {signal})");
    }

    /// <summary>A descriptor of its, as one of this process. Takes the right to trace it (CAP_SYS_PTRACE), and Linux 5.6.</summary>
    /// <param name="number">Its number there.</param>
    /// <exception cref="NativeException">There is no such descriptor (EBADF), or it may not be had.</exception>
    public SafeFileHandle Duplicate(int number) =>
        new(Libc.Check(Libc.PidfdGetDescriptor((int)handle, number), $"pidfd_getfd({Pid}, {number})"), ownsHandle: true);

    /// <summary>Advises the kernel about memory of it. Takes CAP_SYS_NICE, the right to look at it, and Linux 5.10.</summary>
    /// <param name="start">A page's address.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="advice">MADV_…</param>
    /// <returns>False: not now, or not all of it (EAGAIN, EBUSY, ENOMEM), or not there (EINVAL), or it has ended.</returns>
    /// <exception cref="NativeException">The kernel does not take it from us, or is older than 5.10.</exception>
    public bool TryAdvise(ulong start, ulong length, int advice)
    {
        var range = new Libc.Vector { Base = (nint)start, Length = (nint)length };
        if (Libc.ProcessAdvise((int)handle, &range, 1, advice) >= 0) return true;
        return Marshal.GetLastPInvokeError() is Libc.Eagain or Libc.Ebusy or Libc.Enomem or Libc.Einval or Libc.Esrch
            ? false
            : throw Libc.Failure($"process_madvise({Pid}, {advice})");
    }

    /// <summary>Takes the status of an ended child and lets the kernel forget it.</summary>
    public ExitStatus Reap()
    {
        var info = default(Libc.SignalInfo);
        int result;
        do result = Libc.WaitId(Libc.WaitPidDescriptor, (int)handle, &info, Libc.WaitExited);
        while (result < 0 && Marshal.GetLastPInvokeError() == Libc.Eintr);
        // ECHILD: SIGCHLD is ignored in this process (inherited so), and the kernel has thrown the status away.
        if (result < 0) return Marshal.GetLastPInvokeError() == Libc.Echild ? default : throw Libc.Failure("waitid");
        return info.Code == Libc.ChildExited ? new ExitStatus(info.Status, null) : new ExitStatus(null, info.Status);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Libc.Close((int)handle) == 0;
}
