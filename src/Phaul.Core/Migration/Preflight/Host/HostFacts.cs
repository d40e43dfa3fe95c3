// What this host is: processor, page size, kernel.

using System.Globalization;
using System.Runtime.InteropServices;
using Phaul.Procfs;

namespace Phaul.Preflight;

/// <summary>The properties of a host that a program can depend on.</summary>
internal sealed record HostFacts(string Architecture, uint PageSize, string KernelRelease, string CpuModel, IReadOnlyList<string> CpuFlags)
{
    // Flags of x86 that stand for instructions, or for state that they use. The kernel lists many others (mitigations,
    // power states, virtualisation) that no program can notice.
    private static readonly string[] X86Prefixes = ["sse", "ssse", "avx", "amx", "xsave", "bmi", "sha", "fma", "aes", "vaes", "3dnow"];

    private static readonly HashSet<string> X86Flags =
    [
        "fpu", "cx8", "cx16", "cmov", "mmx", "mmxext", "fxsr", "fxsr_opt", "lm", "lahf_lm", "pni", "movbe", "popcnt", "abm", "f16c", "adx",
        "rdrand", "rdseed", "rdtscp", "rdpid", "clflushopt", "clwb", "cldemote", "movdiri", "movdir64b", "prefetchw", "3dnowprefetch",
        "gfni", "vpclmulqdq", "pclmulqdq", "fsgsbase", "xop", "tbm", "rtm", "hle", "pku", "ospke", "serialize", "enqcmd", "waitpkg",
        "user_shstk", "cmpccxadd",
    ];

    /// <summary>This host.</summary>
    public static HostFacts Read(ProcFileSystem proc)
    {
        (string model, var flags) = ParseCpu(proc.ReadText("cpuinfo") ?? "");
        return new HostFacts(ArchitectureName(), (uint)Environment.SystemPageSize, Kernel(proc), model, flags);
    }

    /// <summary>Whether a program can depend on a flag.</summary>
    public static bool IsVisibleToPrograms(string architecture, string flag) =>
        architecture != "x86_64" || X86Flags.Contains(flag) || X86Prefixes.Any(prefix => flag.StartsWith(prefix, StringComparison.Ordinal));

    /// <summary>Whether a kernel release is that version or a later one; false if it cannot be read.</summary>
    public static bool IsKernelAtLeast(string release, int major, int minor)
    {
        string[] parts = release.Split('.', '-', '+');
        return parts.Length >= 2
            && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out int theirs)
            && int.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out int theirMinor)
            && (theirs, theirMinor).CompareTo((major, minor)) >= 0;
    }

    /// <summary>Model and flags of the first processor in /proc/cpuinfo.</summary>
    internal static (string Model, IReadOnlyList<string> Flags) ParseCpu(string text)
    {
        string model = "";
        IReadOnlyList<string> flags = [];
        foreach (string line in text.Split('\n'))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0) continue;
            string value = line[(colon + 1)..].Trim();
            switch (line[..colon].Trim())
            {
                case "model name" when model.Length == 0:
                    model = value;
                    break;
                case "flags" or "Features" when flags.Count == 0:
                    flags = value.Split(' ', StringSplitOptions.RemoveEmptyEntries);
                    break;
            }
        }

        return (model, flags);
    }

    private static string Kernel(ProcFileSystem proc) => proc.ReadText("sys/kernel/osrelease")?.Trim() ?? "";

    private static string ArchitectureName() => RuntimeInformation.OSArchitecture switch
    {
        System.Runtime.InteropServices.Architecture.X64 => "x86_64",
        System.Runtime.InteropServices.Architecture.Arm64 => "aarch64",
        System.Runtime.InteropServices.Architecture.Ppc64le => "ppc64le",
        System.Runtime.InteropServices.Architecture.S390x => "s390x",
        var other => other.ToString(),
    };
}
