// The engine-specific last step of a migration on the source.

using Phaul.Criu;

namespace Phaul;

/// <summary>What <see cref="PhaulClient"/> needs from whoever knows the thing being migrated (a process, a container).</summary>
public interface IPhaulLocal
{
    /// <summary>
    /// Dumps the tree for the last time, copies its images and restores them on the destination. The tree stays frozen for
    /// as long as the implementation keeps CRIU in its <c>post-dump</c> notification; returning normally means that the tree
    /// is dead here and lives there, throwing means that it was resumed here.
    /// </summary>
    /// <param name="criu">
    /// The source's CRIU session. The dump must go through it, with <c>track_mem</c> where iterations came before,
    /// <c>parent_img</c> leading to <paramref name="lastClientImagesPath"/>, and <c>ps.fd</c> = <see cref="CriuClient.MemoryDescriptor"/>.
    /// </param>
    /// <param name="config">The configuration given to the client.</param>
    /// <param name="lastClientImagesPath">The absolute path of the last iteration's image directory, empty if there was none.</param>
    /// <param name="cancellationToken">Rolls back if the commit has not happened yet.</param>
    Task DumpCopyRestoreAsync(CriuClient criu, PhaulConfig config, string lastClientImagesPath, CancellationToken cancellationToken = default);
}
