// The one exception for everything that goes wrong with a CRIU.
using System.Text;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>What went wrong with a CRIU.</summary>
public enum CriuFailure
{
    /// <summary>There is no such program, or nobody listens on the service socket.</summary>
    NotFound,

    /// <summary>The CRIU process ended before it answered.</summary>
    Died,

    /// <summary>It did not answer in time and was ended.</summary>
    Hung,

    /// <summary>It sent what is no answer to the request.</summary>
    Garbage,

    /// <summary>It answered that it failed, or refused.</summary>
    Refused,

    /// <summary>The connection ended; what became of the request is not known.</summary>
    Disconnected,
}

/// <summary>A request to CRIU failed.</summary>
public sealed class CriuException : Exception
{
    internal CriuException(
        CriuFailure kind,
        CriuRequestKind request,
        string detail,
        int? errno = null,
        string? errorMessage = null,
        IReadOnlyList<string>? logTail = null,
        ExitStatus? exitStatus = null,
        Exception? inner = null)
        : base(Describe(request, detail, errno, errorMessage, logTail ?? []), inner)
    {
        Kind = kind;
        Request = request;
        Errno = errno;
        ErrorMessage = errorMessage;
        LogTail = logTail ?? [];
        ExitStatus = exitStatus;
    }

    /// <summary>What went wrong.</summary>
    public CriuFailure Kind { get; }

    /// <summary>The request that failed.</summary>
    public CriuRequestKind Request { get; }

    /// <summary>CRIU's error number (cr_errno), if it gave one.</summary>
    public int? Errno { get; }

    /// <summary>CRIU's first error message (cr_errmsg), if it gave one.</summary>
    public string? ErrorMessage { get; }

    /// <summary>At most 20 lines from the end of CRIU's log, those with errors first; or of what it wrote to standard error.</summary>
    public IReadOnlyList<string> LogTail { get; }

    /// <summary>How the CRIU process ended, where it ended and that is why the request failed.</summary>
    public ExitStatus? ExitStatus { get; }

    /// <summary>PostDump or PostRestore had been acknowledged: the tree may have been killed, or may have run.</summary>
    public bool IsPastReturn { get; init; }

    private static string Describe(CriuRequestKind request, string detail, int? errno, string? message, IReadOnlyList<string> log)
    {
        var text = new StringBuilder($"CRIU {request}: {detail}");
        if (errno is { } number) text.Append($" (errno {number})");
        if ((message ?? log.FirstOrDefault())?.Trim() is { Length: > 0 } reason) text.Append($": {reason}");
        return text.ToString();
    }
}
