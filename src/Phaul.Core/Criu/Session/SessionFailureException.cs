// What a session reports upwards before it is known for which request.
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>A session broke. It becomes a <see cref="CriuException"/> where request and log are known.</summary>
internal sealed class SessionFailureException(CriuFailure kind, string detail, ExitStatus? exitStatus = null, Exception? inner = null)
    : Exception(detail, inner)
{
    public CriuFailure Kind { get; } = kind;

    public ExitStatus? ExitStatus { get; } = exitStatus;
}
