// The one exception type of the engine's public face.

namespace Phaul;

/// <summary>Stable identities of errors: scripts and help pages refer to them.</summary>
public enum PhaulErrorId
{
    /// <summary>A parameter cannot be right; nothing was started.</summary>
    InvalidRequest,

    /// <summary>The process to migrate does not exist, or ended meanwhile.</summary>
    ProcessNotFound,

    /// <summary>The destination could not be reached.</summary>
    ConnectionFailed,

    /// <summary>One side did not accept the other's certificate, or authentication was refused.</summary>
    AuthenticationFailed,

    /// <summary>The two sides do not speak a common protocol version, or a peer broke the protocol.</summary>
    ProtocolError,

    /// <summary>The connection broke, or the peer stopped talking.</summary>
    ConnectionLost,

    /// <summary>A check made before anything was frozen says that this cannot work.</summary>
    CheckFailed,

    /// <summary>criu could not be started.</summary>
    CriuNotFound,

    /// <summary>CRIU refused or failed a dump; the tree was resumed.</summary>
    DumpFailed,

    /// <summary>CRIU could not restore on the destination; the tree was resumed on the source.</summary>
    RestoreFailed,

    /// <summary>The engine of the caller's own (<see cref="MigrationRequest.Local"/>) failed at its last step.</summary>
    EngineFailed,

    /// <summary>Images could not be written, read or verified.</summary>
    ImageTransferFailed,

    /// <summary>The page server, or the relay to it, failed.</summary>
    PageTransferFailed,

    /// <summary>A wait reached its limit.</summary>
    TimedOut,

    /// <summary>The caller cancelled; the program runs on the source.</summary>
    Cancelled,

    /// <summary>It cannot be known from here on which side the program is; resolve it.</summary>
    InDoubt,

    /// <summary>The state directory could not be read or written, or a journal in it is corrupt.</summary>
    JournalFailed,

    /// <summary>The destination already serves as many migrations as it was allowed to.</summary>
    ServerBusy,

    /// <summary>The program was lost: possible only after the commit of a PostCopy or Hybrid migration.</summary>
    ProgramLost,

    /// <summary>A mistake in Phaul itself.</summary>
    InternalError,
}

/// <summary>What failed, where, at which step, where the program is now, CRIU's own words, and what to do next.</summary>
public sealed class PhaulException : Exception
{
    /// <summary>Makes an error.</summary>
    /// <param name="errorId">Its stable identity.</param>
    /// <param name="message">What failed, in one sentence, without the program's state and without advice.</param>
    /// <param name="innerException">The cause.</param>
    public PhaulException(PhaulErrorId errorId, string message, Exception? innerException = null)
        : base(message, innerException) => ErrorId = errorId;

    /// <summary>The stable identity.</summary>
    public PhaulErrorId ErrorId { get; }

    /// <summary>The host on which it failed, if that is known.</summary>
    public string? Host { get; init; }

    /// <summary>The state (step) in which it failed.</summary>
    public MigrationState? Step { get; init; }

    /// <summary>Where the program is now.</summary>
    public ProgramState ProgramState { get; init; } = ProgramState.RunningOnSource;

    /// <summary>The migration came to an end while memory was still being copied: the program runs, and was at no time stopped for it.</summary>
    public bool WasNeverStopped => ProgramState == ProgramState.RunningOnSource
        && Result is { States: { Count: > 0 } states } && states.All(change => change.State != MigrationState.Freezing);

    /// <summary>The last lines of CRIU's log where CRIU was involved, errors preferred, at most 20.</summary>
    public IReadOnlyList<string> CriuLog { get; init; } = [];

    /// <summary>What to do next.</summary>
    public string? RecommendedAction { get; init; }

    /// <summary>The migration's result so far, where a migration had begun.</summary>
    public PhaulMigrationResult? Result { get; init; }
}
