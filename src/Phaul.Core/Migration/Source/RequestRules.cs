// What of a request can be judged without looking at any host.

namespace Phaul;

/// <summary>Refuses requests that cannot be right, before anything is touched.</summary>
internal static class RequestRules
{
    /// <exception cref="PhaulException">InvalidRequest, saying which value and what is allowed.</exception>
    public static void Check(MigrationRequest request)
    {
        Require(request.Pid > 1, $"{request.Pid} is not the pid of a process that can be migrated.", "Give the pid of the root of the tree.");
        Require(request.Convergence.MaxIterations is >= 1 and <= 1000, $"MaxIterations is {request.Convergence.MaxIterations}; 1 to 1000 are allowed.");
        Require(request.Convergence.MinPages >= 0, $"MinPages is {request.Convergence.MinPages}; it cannot be negative.");
        Require(
            request.Convergence.MaxDowntime is not { } downtime || downtime > TimeSpan.Zero,
            $"MaxDowntime is {request.Convergence.MaxDowntime}; it must be positive.");
        Require(
            request.MaxFrozen >= TimeSpan.FromSeconds(1) && request.MaxFrozen <= TimeSpan.FromDays(1),
            $"MaxFrozen is {request.MaxFrozen}; one second to one day are allowed.");
        Require(
            request.BandwidthLimit is null or >= 64 << 10, $"BandwidthLimit is {request.BandwidthLimit} bytes a second; at least 65536 are needed.");
        Require(request.MaxFailedImages >= 0, $"MaxFailedImages is {request.MaxFailedImages}; it cannot be negative.");
        Require(request.ConnectTimeout > TimeSpan.Zero, "ConnectTimeout must be positive.");
        Require(request.PeerTimeout >= TimeSpan.FromSeconds(1), "PeerTimeout must be at least one second.");
        Require(request.Options.LogLevel is >= 0 and <= 4, $"CRIU's log level is {request.Options.LogLevel}; 0 to 4 are allowed.");
        Require(
            !(request.Options.TcpEstablished && request.Options.TcpClose),
            "TcpEstablished and TcpClose exclude each other: connections are either moved or closed.");
        Require(
            request.Destination.UnixSocketPath is not null || !string.IsNullOrWhiteSpace(request.Destination.Host),
            "There is no destination: neither a host nor a UNIX socket was given.");
        Require(request.Destination.Port is >= 1 and <= 65535, $"The port is {request.Destination.Port}; 1 to 65535 are allowed.");
        Require(
            !LeavesMemoryBehind(request.Mode) || !(request.Options.TcpEstablished || request.Options.LinkRemap),
            $"{request.Mode} cannot move established connections or remapped links: CRIU lets the network and its links go before the memory has followed.",
            "Use PreCopy, Prefetch or StopAndCopy, or leave out TcpEstablished and LinkRemap (TcpClose closes the connections).");
        Require(
            !LeavesMemoryBehind(request.Mode) || request.Local is null,
            $"{request.Mode} cannot be combined with an engine of your own: memory that follows is Phaul's affair.", "Use PreCopy, Prefetch or StopAndCopy.");
        Require(
            !LeavesMemoryBehind(request.Mode) || !request.EagerRestore,
            $"{request.Mode} and EagerRestore exclude each other.", "Leave one of them out.");
        Require(
            !request.CollapseMemory || request.Mode is MigrationMode.StopAndCopy or MigrationMode.Prefetch or MigrationMode.PostCopy,
            $"CollapseMemory is for StopAndCopy, Prefetch and PostCopy, not for {request.Mode}: where the kernel tells what was written, a huge page is sent again as a whole, and Auto may choose PreCopy.",
            "Name one of these modes, or leave CollapseMemory out.");
    }

    /// <summary>What was asked for and does nothing in a mode, in words.</summary>
    public static IEnumerable<string> WithoutEffect(MigrationRequest request, MigrationMode mode)
    {
        if (!Iterates(mode) && request.Convergence.MaxDowntime is not null)
            yield return $"MaxDowntime has no effect in {mode}: there are no iterations.";
        if (mode == MigrationMode.PostCopy && request.BandwidthLimit is not null)
            yield return "BandwidthLimit has no effect in PostCopy: memory that follows is waited for, and not limited.";
        if (mode == MigrationMode.StopAndCopy && request is { BandwidthLimit: not null, LimitFrozenPart: false, Local: null })
            yield return "BandwidthLimit has no effect in StopAndCopy without LimitFrozenPart: all memory moves while the program is frozen.";
    }

    /// <summary>Whether memory is copied in iterations while the program runs.</summary>
    public static bool Iterates(MigrationMode mode) => mode is MigrationMode.PreCopy or MigrationMode.Prefetch or MigrationMode.Hybrid;

    /// <summary>Whether the program runs on the destination while some of its memory is only on the source.</summary>
    public static bool LeavesMemoryBehind(MigrationMode mode) => mode is MigrationMode.PostCopy or MigrationMode.Hybrid;

    private static void Require(bool condition, string message, string? action = null)
    {
        if (!condition)
            throw new PhaulException(PhaulErrorId.InvalidRequest, message) { RecommendedAction = action };
    }
}
