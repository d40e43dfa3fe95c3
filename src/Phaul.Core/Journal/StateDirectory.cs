// Where migrations leave their records: the layout of the state directory, and nothing of what is in the files.

namespace Phaul.Journal;

/// <summary>
/// A state directory: <c>migrations/ID/source.jsonl</c> and <c>migrations/ID/destination.jsonl</c>. Both sides of one migration
/// may share a state directory. Nothing is created before something is written.
/// </summary>
public sealed class StateDirectory
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    /// <summary>Names a state directory; it need not exist.</summary>
    /// <param name="path">Its path; null for <see cref="DefaultPath"/>.</param>
    public StateDirectory(string? path = null) => Path = System.IO.Path.GetFullPath(path ?? DefaultPath);

    /// <summary>
    /// <c>PHAUL_STATE_DIRECTORY</c> if it is set; <c>/var/lib/phaul</c> for root; otherwise <c>$XDG_STATE_HOME/phaul</c>, or
    /// <c>~/.local/state/phaul</c>.
    /// </summary>
    public static string DefaultPath => ChooseDefault(
        Environment.GetEnvironmentVariable,
        Environment.IsPrivilegedProcess,
        Environment.GetFolderPath(Environment.SpecialFolder.UserProfile));

    /// <summary>The absolute path of the state directory.</summary>
    public string Path { get; }

    /// <summary>Where images are put unless a work directory is named.</summary>
    public string ImagesPath => System.IO.Path.Combine(Path, "images");

    private string MigrationsPath => System.IO.Path.Combine(Path, "migrations");

    /// <summary>A new id, greater than those before it.</summary>
    public static string NewMigrationId() => MigrationId.New();

    /// <summary>The ids of all migrations that have a directory here, newest first. Empty if the state directory does not exist.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.JournalFailed"/>: it cannot be read.</exception>
    public IReadOnlyList<string> Migrations()
    {
        try
        {
            return Directory.EnumerateDirectories(MigrationsPath)
                .Select(directory => System.IO.Path.GetFileName(directory))
                .Where(MigrationId.IsValid)
                .OrderByDescending(id => id, StringComparer.Ordinal)
                .ToArray();
        }
        catch (DirectoryNotFoundException)
        {
            return [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed($"The state directory {Path} cannot be read", e);
        }
    }

    /// <summary>The id of the one migration here whose id is, or begins with, the text; null if there is none.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: no id begins so, or several do.</exception>
    public string? Find(string idOrPrefix)
    {
        ArgumentNullException.ThrowIfNull(idOrPrefix);
        if (!MigrationId.IsPrefix(idOrPrefix))
            return MigrationId.Check(idOrPrefix);
        var found = Migrations().Where(id => id.StartsWith(idOrPrefix, StringComparison.Ordinal)).Take(2).ToArray();
        return found.Length < 2
            ? found.FirstOrDefault()
            : throw new PhaulException(
                PhaulErrorId.InvalidRequest, $"Several migrations begin with {idOrPrefix}, among them {found[0]} and {found[1]}.");
    }

    /// <summary>The directory of a migration, which may not exist.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: not a migration id.</exception>
    public string MigrationPath(string id) => System.IO.Path.Combine(MigrationsPath, MigrationId.Check(id));

    /// <summary>The journal of one side of a migration, which may not exist.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: not a migration id.</exception>
    public string JournalPath(string id, MigrationSide side) => System.IO.Path.Combine(MigrationPath(id), side switch
    {
        MigrationSide.Source => "source.jsonl",
        MigrationSide.Destination => "destination.jsonl",
        _ => throw new ArgumentOutOfRangeException(nameof(side)),
    });

    /// <summary>The sides of a migration that have a journal here, the source first.</summary>
    /// <exception cref="PhaulException"><see cref="PhaulErrorId.InvalidRequest"/>: not a migration id.</exception>
    public IReadOnlyList<MigrationSide> Sides(string id)
        => Enum.GetValues<MigrationSide>().Where(side => File.Exists(JournalPath(id, side))).ToArray();

    /// <summary>Makes the directory of a migration, and those above it, with mode 0700 where they are missing.</summary>
    /// <returns>Every directory whose entries a durable journal needs on the disk, the innermost first.</returns>
    internal IReadOnlyList<string> CreateMigrationPath(string id)
    {
        var directory = MigrationPath(id);
        try
        {
            // What is above the state directory belongs to somebody else, and what is made there is still synced.
            var chain = new List<string> { directory, MigrationsPath, Path };
            for (var above = System.IO.Path.GetDirectoryName(Path); above is not null; above = System.IO.Path.GetDirectoryName(above))
            {
                chain.Add(above);
                if (Directory.Exists(above))
                    break;
            }

            Directory.CreateDirectory(Path, OwnerOnly);
            if ((File.GetUnixFileMode(Path) & UnixFileMode.OtherWrite) != 0)
                throw new PhaulException(PhaulErrorId.JournalFailed, $"Everybody may write to the state directory {Path}.")
                {
                    RecommendedAction = "Choose a directory of Phaul's own, or chmod it to 0700.",
                };
            Directory.CreateDirectory(MigrationsPath, OwnerOnly);
            Directory.CreateDirectory(directory, OwnerOnly);
            return chain;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Failed($"The state directory {Path} cannot be written", e);
        }
    }

    /// <summary>Removes what one side has written of a migration, as far as it can be removed.</summary>
    internal void Forget(string id, MigrationSide side)
    {
        try
        {
            File.Delete(JournalPath(id, side));
            if (!Directory.EnumerateFileSystemEntries(MigrationPath(id)).Any())
                Directory.Delete(MigrationPath(id));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It stays in the history, then
        }
    }

    internal static string ChooseDefault(Func<string, string?> environment, bool isRoot, string home)
    {
        if (environment("PHAUL_STATE_DIRECTORY") is { Length: > 0 } chosen)
            return chosen;
        if (isRoot)
            return "/var/lib/phaul";
        // The XDG specification has relative paths ignored.
        return environment("XDG_STATE_HOME") is { Length: > 0 } state && System.IO.Path.IsPathRooted(state)
            ? System.IO.Path.Combine(state, "phaul")
            : System.IO.Path.Combine(home, ".local", "state", "phaul");
    }

    internal static PhaulException Failed(string what, Exception cause)
        => new(PhaulErrorId.JournalFailed, $"{what}: {cause.Message}", cause);
}
