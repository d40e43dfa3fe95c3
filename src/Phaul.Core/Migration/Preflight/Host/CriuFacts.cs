// What can be known of this host's CRIU before it is used.

using Phaul.Criu;
using Phaul.Criu.Rpc;

namespace Phaul.Preflight;

/// <summary>What a CRIU says of itself.</summary>
/// <param name="Path">How it is found.</param>
internal sealed record CriuFacts(string Path)
{
    private static readonly TimeSpan RequestLimit = TimeSpan.FromSeconds(8);

    /// <summary>Its version; null: it does not work, see <see cref="Failure"/>.</summary>
    public CriuVersion? Version { get; init; }

    /// <summary>Why it does not work.</summary>
    public string? Failure { get; init; }

    /// <summary>Whether it is absent, rather than broken.</summary>
    public bool IsAbsent { get; init; }

    /// <summary>What it can do on this kernel; null: it could not find out.</summary>
    public CriuFeatures? Features { get; init; }

    /// <summary>Why it could not find out.</summary>
    public string? FeatureFailure { get; init; }

    /// <summary>Why dirty memory is not tracked although it says so; null: it is, or it was not tried.</summary>
    public string? TrackingFailure { get; init; }

    /// <summary>What its own check of the kernel found wrong; null: nothing.</summary>
    public string? CheckFailure { get; init; }

    /// <summary>Asks a CRIU.</summary>
    /// <param name="path">The CRIU.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <param name="tryTracking">Where it says that it tracks dirty memory, see whether it does.</param>
    public static async Task<CriuFacts> ProbeAsync(string path, CancellationToken cancellationToken, bool tryTracking = false)
    {
        var facts = new CriuFacts(path);
        var client = new CriuClient(new CriuClientOptions
        {
            CriuPath = path,
            RequestTimeout = RequestLimit,
            EndTimeout = TimeSpan.FromSeconds(2),
        });
        await using (client.ConfigureAwait(false))
        {
            try
            {
                facts = facts with { Version = await client.GetVersionAsync(cancellationToken).ConfigureAwait(false) };
            }
            catch (CriuException e)
            {
                return facts with { Failure = Words(e), IsAbsent = e.Kind == CriuFailure.NotFound };
            }

            try
            {
                facts = facts with { Features = await client.CheckFeaturesAsync(cancellationToken).ConfigureAwait(false) };
            }
            catch (CriuException e)
            {
                facts = facts with { FeatureFailure = Words(e) };
            }

            try
            {
                await client.CheckAsync(cancellationToken: cancellationToken).ConfigureAwait(false);
            }
            catch (CriuException e)
            {
                facts = facts with { CheckFailure = Words(e) };
            }

            return tryTracking && facts.Features is { MemTrack: true }
                ? facts with { TrackingFailure = await TrackingTrial.RunAsync(path, cancellationToken).ConfigureAwait(false) }
                : facts;
        }
    }

    private static string Words(CriuException e) => string.Join(" | ", e.LogTail.Take(3).Prepend(e.Message).Distinct());
}
