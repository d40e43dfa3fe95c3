// Which protocol a socket of any process speaks: the kernel says so in an extended attribute.

using System.Text;

namespace Phaul.Native;

internal static class SocketProtocol
{
    /// <summary>
    /// The kernel's name of the protocol (<c>TCP</c>, <c>UDPv6</c>, <c>UNIX-STREAM</c>, <c>AF_VSOCK</c> …); null if it cannot be
    /// had.
    /// </summary>
    /// <param name="path">A link in <c>/proc/PID/fd</c> to a socket.</param>
    public static unsafe string? Of(string path)
    {
        const int capacity = 64;
        byte* value = stackalloc byte[capacity];
        nint length = Libc.GetExtendedAttribute(path, "system.sockprotoname", value, capacity);
        return length <= 0 ? null : Encoding.ASCII.GetString(value, (int)length).TrimEnd('\0');
    }
}
