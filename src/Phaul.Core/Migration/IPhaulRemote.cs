// What the source calls on the destination, over whatever the caller brings.

namespace Phaul;

/// <summary>The destination as <see cref="PhaulClient"/> sees it. <see cref="PhaulServer"/> implements it.</summary>
public interface IPhaulRemote
{
    /// <summary>Opens the next image directory and starts a page server for it.</summary>
    /// <param name="cancellationToken">Gives up waiting for the destination.</param>
    Task StartIterationAsync(CancellationToken cancellationToken = default);

    /// <summary>Waits until the page server of this iteration has written everything and ended, and checks how it ended.</summary>
    /// <param name="cancellationToken">Gives up waiting for the destination.</param>
    Task StopIterationAsync(CancellationToken cancellationToken = default);
}
