// Who is told, and decides.
namespace Phaul.Criu;

/// <summary>Is told what happens during a dump or a restore, and may hold it or refuse it.</summary>
public interface ICriuNotifications
{
    /// <summary>
    /// CRIU waits until this returns, however long that is. False, or an exception, refuses: CRIU undoes what it did.
    /// </summary>
    /// <param name="cancellationToken">
    /// Cancelled when the request is cancelled and when CRIU dies. The answer decides, not the token: a handler that returns
    /// true all the same is taken at its word.
    /// </param>
    Task<bool> OnNotificationAsync(CriuNotification notification, CancellationToken cancellationToken);
}
