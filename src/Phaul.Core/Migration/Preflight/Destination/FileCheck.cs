// Whether the files that the tree has open or mapped are here, and are the same.

using Phaul.Native;
using Phaul.Wire;
using Kind = Phaul.Wire.SurveyedFile.Types.Kind;

namespace Phaul.Preflight;

internal static class FileCheck
{
    private const uint PermissionBits = 0x1FF;

    /// <summary>Compares each file of the survey with the one here.</summary>
    public static IEnumerable<Finding> Run(TreeSurvey survey, ProcessOptions options, CancellationToken cancellationToken)
    {
        if (options.Root is null && survey.OwnNamespaces.Contains("mnt"))
        {
            yield return new Finding(CheckVerdict.Skipped,
                "The tree has a mount namespace of its own, and where its root is here was not said.");
            yield break;
        }

        string root = options.Root?.TrimEnd('/') ?? "";
        int compared = 0;
        foreach (var file in survey.Files)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (options.External.Any(external => external.StartsWith($"file[{file.Path}]", StringComparison.Ordinal))) continue;
            compared++;
            foreach (var finding in Compare(file, root + file.Path, options, cancellationToken)) yield return finding;
        }

        yield return new Finding(CheckVerdict.Passed, $"{compared} files and directories are here.");
    }

    private static IEnumerable<Finding> Compare(SurveyedFile file, string here, ProcessOptions options, CancellationToken cancellationToken)
    {
        const string remedy = "Bring the file systems into agreement (the same packages, a copy of the file, or a shared file system).";
        if (!file.Path.StartsWith('/') || file.Path.Contains('\0', StringComparison.Ordinal))
        {
            yield return new Finding(CheckVerdict.Failed, $"The source names a file by no absolute path: '{file.Path}'.");
            yield break;
        }

        if (FileStatus.Of(here) is not { } status)
        {
            yield return new Finding(CheckVerdict.Failed, $"{here}, which the program has {Use(file.Kind)}, is missing here.", remedy);
            yield break;
        }

        uint mask = options.SkipFileRwxCheck ? ~PermissionBits : uint.MaxValue;
        if ((file.Mode & 0xF000) != status.Type)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"{here} is {TypeName(status.Mode)} here and {TypeName(file.Mode)} on the source.", remedy);
            yield break;
        }

        if ((file.Mode & mask) != (status.Mode & mask))
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"{here} has the permissions {Octal(status.Mode)} here and {Octal(file.Mode)} on the source.",
                "Make them equal by chmod, or give --skip-file-rwx-check / -SkipFileRwxCheck.");
        }

        if (!status.IsRegular) yield break;
        if (file.Kind == Kind.Writable)
        {
            if (file.IsLog) yield break;
            if ((ulong)status.Size < file.Size)
            {
                yield return new Finding(
                    CheckVerdict.Failed,
                    $"{here}, which the program writes to, has {status.Size} bytes here and {file.Size} on the source.", remedy);
            }
            else if ((ulong)status.Size > file.Size)
            {
                yield return new Finding(
                    CheckVerdict.Warning,
                    $"{here}, which the program writes to, has {status.Size} bytes here and had {file.Size} on the source: that is right "
                    + "on a shared file system; otherwise the restore will refuse it.",
                    "Use a shared file system, or copy the file again.");
            }

            yield break;
        }

        if ((ulong)status.Size != file.Size)
        {
            yield return new Finding(
                CheckVerdict.Failed,
                $"{here}, which the program has {Use(file.Kind)}, has {status.Size} bytes here and {file.Size} on the source.",
                remedy);
        }
        else if (file.Sha256.Length > 0 && file.Size <= FileSurvey.MaxHashedFile)
        {
            byte[]? hash = FileSurvey.Hash(here, status.Size, cancellationToken);
            if (hash is null)
                yield return new Finding(CheckVerdict.Warning, $"{here} could not be read here, and was compared by size only.");
            else if (!file.Sha256.Span.SequenceEqual(hash))
                yield return new Finding(CheckVerdict.Failed,
                    $"{here}, which the program has {Use(file.Kind)}, differs from the one on the source.", remedy);
        }
    }

    private static string Octal(uint mode) => Convert.ToString(mode & 0xFFF, 8).PadLeft(4, '0');

    private static string Use(Kind kind) => kind switch
    {
        Kind.Executable => "mapped as code",
        Kind.Directory => "open or as its working directory",
        _ => "open or mapped",
    };

    private static string TypeName(uint mode) => (mode & 0xF000) switch
    {
        0x8000 => "a regular file",
        0x4000 => "a directory",
        0x2000 => "a character device",
        0x6000 => "a block device",
        0x1000 => "a FIFO",
        0xC000 => "a socket",
        _ => "something else",
    };
}
