// An advisory lock on a file, held for as long as this lives.
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

/// <summary>An exclusive flock(2): it ends with its holder, even when that is killed.</summary>
internal sealed class FileLock : IDisposable
{
    private readonly SafeFileHandle _file;

    private FileLock(SafeFileHandle file) => _file = file;

    /// <summary>Takes the lock, making the file (0600) if it is absent.</summary>
    /// <returns>Null if somebody else holds it.</returns>
    /// <exception cref="NativeException">The file cannot be opened or locked.</exception>
    public static FileLock? TryTake(string path)
    {
        // Not by FileStream, which locks files on its own account.
        const int ownerOnly = 0x180; // 0600
        const int flags = Libc.OpenReadWrite | Libc.OpenCreate | Libc.OpenCloseOnExec;
        var file = new SafeFileHandle(Libc.Check(Libc.Open(path, flags, ownerOnly), $"open({path})"), ownsHandle: true);
        if (Libc.Flock((int)file.DangerousGetHandle(), Libc.LockExclusive | Libc.LockNonBlocking) >= 0) return new FileLock(file);
        var errno = Marshal.GetLastPInvokeError();
        file.Dispose();
        return errno == Libc.Eagain ? null : throw new NativeException($"flock({path})", errno);
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
