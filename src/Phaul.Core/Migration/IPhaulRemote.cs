// What the source calls on the destination, over whatever the caller brings.

namespace Phaul;

/// <summary>The destination as <see cref="PhaulClient"/> sees it. <see cref="PhaulServer"/> implements it.</summary>
public interface IPhaulRemote
{
    /// <summary>Opens the next image directory and receives pages into it from here on.</summary>
    /// <param name="cancellationToken">Gives up waiting for the destination.</param>
    Task StartIterationAsync(CancellationToken cancellationToken = default);

    /// <summary>Waits until everything of this iteration is written, and checks that nothing is missing.</summary>
    /// <param name="cancellationToken">Gives up waiting for the destination.</param>
    Task StopIterationAsync(CancellationToken cancellationToken = default);
}
