// The directory of one migration on one host: images and logs, for the owner's eyes only.

namespace Phaul;

/// <summary>Where one side of one migration puts its files. The side is in the name: both may be on one machine.</summary>
internal sealed class WorkDirectory
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private WorkDirectory(string path) => Path = path;

    public string Path { get; }

    public static WorkDirectory For(string parent, string migrationId, MigrationSide side) =>
        new(System.IO.Path.Combine(System.IO.Path.GetFullPath(parent), Journal.MigrationId.Check(migrationId) + Suffix(side)));

    /// <summary>The migrations that have a directory of this side there.</summary>
    public static IEnumerable<string> MigrationsIn(string parent, MigrationSide side) => !Directory.Exists(parent)
        ? []
        : Directory.EnumerateDirectories(parent, $"*{Suffix(side)}")
            .Select(path => System.IO.Path.GetFileName(path)[..^Suffix(side).Length])
            .Where(Journal.MigrationId.IsValid);

    /// <exception cref="PhaulException">It cannot be made, or exists.</exception>
    public void Create()
    {
        try
        {
            if (Directory.Exists(Path))
                throw new PhaulException(PhaulErrorId.InvalidRequest, $"The work directory {Path} exists already");
            Directory.CreateDirectory(System.IO.Path.GetDirectoryName(Path)!, OwnerOnly);
            Directory.CreateDirectory(Path, OwnerOnly);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new PhaulException(PhaulErrorId.InvalidRequest, $"The work directory {Path} cannot be made: {exception.Message}", exception)
            {
                RecommendedAction = "Name another one with -WorkDirectory / --work-directory.",
            };
        }
    }

    private static string Suffix(MigrationSide side) => $"-{side.ToString().ToLowerInvariant()}";

    /// <summary>Removes it with all it holds; null if it is gone, otherwise why not.</summary>
    public string? TryRemove() => TryRemove(Path);

    /// <summary>The same for one that a journal names.</summary>
    public static string? TryRemove(string path)
    {
        try
        {
            if (Directory.Exists(path))
                Directory.Delete(path, recursive: true);
            return null;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            return exception.Message;
        }
    }
}
