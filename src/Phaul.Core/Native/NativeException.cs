// The one exception for a failed call into the C library.
using System.ComponentModel;

namespace Phaul.Native;

/// <summary>A system call failed.</summary>
public sealed class NativeException : Exception
{
    /// <summary>Makes the exception for a call that failed.</summary>
    /// <param name="call">The name of the call, and what it was called on where that helps.</param>
    /// <param name="errno">The C library's error number.</param>
    public NativeException(string call, int errno)
        : base($"{call}: {new Win32Exception(errno).Message} (errno {errno})")
    {
        Call = call;
        Errno = errno;
    }

    /// <summary>The call that failed.</summary>
    public string Call { get; }

    /// <summary>The C library's error number (errno).</summary>
    public int Errno { get; }
}
