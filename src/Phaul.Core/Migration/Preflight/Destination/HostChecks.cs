// Whether this host is one on which the program can go on: architecture, processor, CRIU's page format, memory, space.

using System.Globalization;
using Phaul.Images.Pages;
using Phaul.Native;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

internal static class HostChecks
{
    private const ulong ReservedPerMemory = 16;

    /// <summary>Whether the two CRIUs understand each other's pages.</summary>
    public static IReadOnlyList<Finding> PageServerFormat(TreeSurvey survey, CriuFacts facts)
    {
        uint here = TreeSurveyor.Number(facts.Version);
        if (here == 0 || survey.CriuVersion == 0)
            return [new(CheckVerdict.Skipped, $"The version of criu on the {(here == 0 ? "destination" : "source")} is not known.")];
        string versions = $"criu {Version(survey.CriuVersion)} on the source and {Version(here)} on the destination";
        var format = PageServerHeader.FormatOf(here);
        return format == PageServerHeader.FormatOf(survey.CriuVersion)
            ? [new(CheckVerdict.Passed, $"{versions} send pages alike.")]
            : [new(
                CheckVerdict.Failed, $"{versions} do not understand each other's pages: the format changed in criu 4.2.",
                $"Install criu 4.2 or later on the {(format == Images.Pages.PageServerFormat.Short ? "destination" : "source")}.")];
    }

    /// <summary>Whether it is the same kind of machine.</summary>
    public static IEnumerable<Finding> Architecture(TreeSurvey survey, HostFacts host)
    {
        if (survey.Architecture != host.Architecture)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"The program runs on {survey.Architecture}; this host is {host.Architecture}.",
                "Choose a destination of the same architecture.");
        }
    }

    /// <summary>Whether pages are of the same size.</summary>
    public static IEnumerable<Finding> PageSize(TreeSurvey survey, HostFacts host)
    {
        if (survey.PageSize != host.PageSize)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"Pages are {survey.PageSize} bytes on the source and {host.PageSize} bytes here.",
                "Choose a destination whose kernel has the same page size.");
        }
    }

    /// <summary>Whether this processor has everything that a program may have found on the source's.</summary>
    public static IEnumerable<Finding> Cpu(TreeSurvey survey, HostFacts host)
    {
        if (survey.Architecture != host.Architecture)
        {
            yield return new Finding(CheckVerdict.Skipped, "The architectures differ.");
            yield break;
        }

        var missing = survey.CpuFlags.Where(flag => HostFacts.IsVisibleToPrograms(host.Architecture, flag))
            .Except(host.CpuFlags).Order(StringComparer.Ordinal).ToList();
        if (missing.Count == 0) yield break;
        string named = string.Join(' ', missing.Take(24)) + (missing.Count > 24 ? " …" : "");
        yield return new Finding(
            CheckVerdict.Failed,
            $"This processor ({host.CpuModel}) lacks what the source's ({survey.CpuModel}) has, and the program may use: {named}.",
            "Choose a destination with these, or give the source a common CPU model and start the program anew there.");
    }

    /// <summary>Whether images fit on the file system.</summary>
    public static IEnumerable<Finding> Space(TreeSurvey survey, string workDirectory, long minFreeBytes, MigrationMode mode)
    {
        string existing = SourceChecks.ExistingPart(workDirectory);
        long free = FileSystemSpace.AvailableBytes(existing);
        ulong needed = Sum(survey.MemoryBytes, survey.ImageBytes);
        ulong kept = (ulong)Math.Max(0, minFreeBytes);
        if ((ulong)free < Sum(needed, kept))
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"{existing} has {Mib((ulong)free)} free; the images take about {Mib(needed)}, and {Mib(kept)} must stay free.",
                "Free some space, or give the server --work-directory / -WorkDirectory on a larger file system.");
        }
        else if (RequestRules.Iterates(mode) && (ulong)free < Sum(Sum(needed, survey.MemoryBytes), kept))
        {
            yield return new Finding(
                CheckVerdict.Warning,
                $"{existing} has {Mib((ulong)free)} free; the images take {Mib(needed)} and more with each iteration of a program "
                + "that keeps changing its memory.",
                "Free some space, or give the server --work-directory / -WorkDirectory on a larger file system.");
        }
        else
        {
            yield return new Finding(CheckVerdict.Passed, $"{existing} has {Mib((ulong)free)} free; the images take about {Mib(needed)}.");
        }
    }

    /// <summary>Whether the program fits into memory.</summary>
    public static IEnumerable<Finding> Memory(TreeSurvey survey, ProcFileSystem proc)
    {
        var figures = MemoryFigures(proc.ReadText("meminfo") ?? "");
        ulong available = figures.GetValueOrDefault("MemAvailable");
        ulong swap = figures.GetValueOrDefault("SwapFree");
        if (available == 0)
        {
            yield return new Finding(CheckVerdict.Skipped, "How much memory is available could not be read.");
            yield break;
        }

        if (survey.MemoryBytes > available + swap)
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"The program holds {Mib(survey.MemoryBytes)}; here are {Mib(available)} available and {Mib(swap)} of swap.",
                "Free memory on the destination, or choose another.");
        }
        else if (survey.MemoryBytes > available)
        {
            yield return new Finding(
                CheckVerdict.Warning,
                $"The program holds {Mib(survey.MemoryBytes)}; here are {Mib(available)} available: the rest would be swapped.",
                "Free memory on the destination.");
        }

        string overcommit = proc.ReadText("sys/vm/overcommit_memory")?.Trim() ?? "";
        ulong reservable = overcommit switch
        {
            "1" => ulong.MaxValue,
            "2" => figures.GetValueOrDefault("CommitLimit") - Math.Min(
                figures.GetValueOrDefault("CommitLimit"), figures.GetValueOrDefault("Committed_AS")),
            // Reserved memory that is never touched counts only in part: 13 times the memory was restored, 128 times was refused.
            _ => (figures.GetValueOrDefault("MemTotal") + figures.GetValueOrDefault("SwapTotal")) * ReservedPerMemory,
        };
        if (survey.LargestMapping > reservable)
        {
            yield return new Finding(
                CheckVerdict.Warning,
                $"The program has reserved {Mib(survey.LargestMapping)} of address space in one piece; this kernel (vm.overcommit_memory="
                + $"{overcommit}) may refuse more than {Mib(reservable)}.",
                "If the restore fails with \"Unable to map ANON_VMA\": sysctl vm.overcommit_memory=1 on the destination.");
        }
    }

    internal static Dictionary<string, ulong> MemoryFigures(string text)
    {
        var figures = new Dictionary<string, ulong>();
        foreach (string line in text.Split('\n'))
        {
            string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields is [var name, var number, "kB"]
                && ulong.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out ulong kibibytes)
                && kibibytes < ulong.MaxValue >> 10)
                figures[name.TrimEnd(':')] = kibibytes << 10;
        }

        return figures;
    }

    private static string Version(uint number) => string.Create(
        CultureInfo.InvariantCulture, $"{number / 10_000}.{number / 100 % 100}{(number % 100 == 0 ? "" : $".{number % 100}")}");

    private static string Mib(ulong bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes >> 20} MiB");

    // The figures are a peer's: a sum must not wrap around.
    private static ulong Sum(ulong left, ulong right) => left > ulong.MaxValue - right ? ulong.MaxValue : left + right;
}
