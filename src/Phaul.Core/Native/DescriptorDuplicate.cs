// Duplicates of descriptors that keep the original's open file alive under a number of our own.
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

internal static class DescriptorDuplicate
{
    /// <summary>Duplicates a descriptor, closed on exec.</summary>
    /// <param name="lowest">The lowest number that the duplicate may get.</param>
    /// <exception cref="NativeException">There is no such descriptor, or no number is free.</exception>
    public static SafeFileHandle Of(SafeHandle descriptor, int lowest = 0)
    {
        var held = false;
        try
        {
            descriptor.DangerousAddRef(ref held);
            return OfNumber((int)descriptor.DangerousGetHandle(), lowest);
        }
        finally
        {
            if (held) descriptor.DangerousRelease();
        }
    }

    /// <summary>Duplicates a descriptor that is known by its number only.</summary>
    /// <exception cref="NativeException">There is no such descriptor, or no number is free.</exception>
    public static SafeFileHandle OfNumber(int descriptor, int lowest = 0)
    {
        var duplicate = Libc.Check(Libc.Fcntl(descriptor, Libc.DuplicateCloseOnExec, lowest), $"fcntl({descriptor}, F_DUPFD_CLOEXEC)");
        return new SafeFileHandle(duplicate, ownsHandle: true);
    }
}
