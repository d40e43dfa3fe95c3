// Whether this server may give the program the capabilities that it has.

using System.Numerics;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

/// <summary>
/// CRIU restores credentials last, after the notification in which the hand-over holds it: a capability that may not be given is
/// found out only when the program is gone from the source. So it has to be known before.
/// </summary>
internal static class CapabilityReachCheck
{
    private static readonly string[] Names = [
        "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
        "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
        "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
        "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
        "PERFMON", "BPF", "CHECKPOINT_RESTORE"];

    /// <summary>Compares the tree's capabilities with this process's own.</summary>
    public static IEnumerable<Finding> Run(TreeSurvey survey, ProcStatus? own)
    {
        if (own is null)
        {
            yield return new Finding(CheckVerdict.Skipped, "The server's own capabilities could not be read.");
            yield break;
        }

        if (survey.OwnNamespaces.Contains("user"))
        {
            yield return new Finding(CheckVerdict.Skipped, "The program's capabilities are those of its own user namespace.");
            yield break;
        }

        ulong missing = survey.Capabilities & ~own.EffectiveCapabilities;
        if (missing != 0)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"The program has capabilities that the server has not, and cannot give it: {string.Join(", ", NamesOf(missing))}.",
                "Run the server with these capabilities (CapabilityBoundingSet= of its unit), or take them from the program.");
        }
    }

    private static IEnumerable<string> NamesOf(ulong capabilities)
    {
        for (; capabilities != 0; capabilities &= capabilities - 1)
        {
            int bit = BitOperations.TrailingZeroCount(capabilities);
            yield return bit < Names.Length ? "CAP_" + Names[bit] : $"capability {bit}";
        }
    }
}
