// Notifications handled by a function.
namespace Phaul.Criu;

/// <summary>Handles notifications by a function.</summary>
public sealed class CriuNotifications : ICriuNotifications
{
    private readonly Func<CriuNotification, CancellationToken, Task<bool>> _handler;

    /// <summary>Handles every notification by one function, which returns false to refuse.</summary>
    public CriuNotifications(Func<CriuNotification, CancellationToken, Task<bool>> handler) => _handler = handler;

    /// <summary>Handles one kind by a function that refuses by throwing; all others are acknowledged.</summary>
    public static CriuNotifications At(CriuNotificationKind kind, Func<CriuNotification, CancellationToken, Task> handler) =>
        new(async (notification, cancellationToken) =>
        {
            if (notification.Kind == kind) await handler(notification, cancellationToken).ConfigureAwait(false);
            return true;
        });

    /// <inheritdoc/>
    public Task<bool> OnNotificationAsync(CriuNotification notification, CancellationToken cancellationToken) =>
        _handler(notification, cancellationToken);
}
