// How a process ended.
namespace Phaul.Native;

/// <summary>How a process ended: with an exit code, or by a signal.</summary>
/// <param name="ExitCode">The exit code, 0 to 255, or null if a signal ended it.</param>
/// <param name="Signal">The number of the signal that ended it, or null if it exited.</param>
/// <remarks>Both are null when the kernel no longer knows (the parent ignores SIGCHLD).</remarks>
public readonly record struct ExitStatus(int? ExitCode, int? Signal)
{
    /// <summary>Whether it exited with code 0.</summary>
    public bool IsSuccess => ExitCode == 0;

    /// <summary>Reads the status word of wait(2).</summary>
    public static ExitStatus FromWaitStatus(int status) =>
        (status & 0x7f) == 0 ? new ExitStatus((status >> 8) & 0xff, null) : new ExitStatus(null, status & 0x7f);

    /// <inheritdoc/>
    public override string ToString() =>
        ExitCode is { } code ? $"exit code {code}" : Signal is { } signal ? $"signal {signal}" : "unknown status";
}
