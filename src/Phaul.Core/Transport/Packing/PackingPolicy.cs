// Whether to pack: whichever of the two had bytes gone sooner, tried anew from time to time. Figures in, decision out.

namespace Phaul.Transport;

/// <summary>
/// Decides for each window of bytes. What a window took is the time that packing and sending held up whoever sends: packing costs
/// nothing where the link is still busy with what was sent before.
/// </summary>
internal sealed class PackingPolicy
{
    // The slower the other way was, the longer it is not tried again: trying costs three windows of a hundred at most
    private const int TryOtherAfter = 8;
    private const int TryOtherAfterAtMost = 1024;

    // Packing that is hardly quicker is a waste of two processors
    private const double Better = 1.05;

    private double? _plain;
    private double? _packed;
    private int _windows;

    /// <summary>Whether to pack in the next window.</summary>
    public bool Packs { get; private set; }

    /// <summary>A window is over, in which <see cref="Packs"/> was followed.</summary>
    /// <param name="bytes">Before packing.</param>
    /// <param name="elapsed">What they took.</param>
    public void Observe(long bytes, TimeSpan elapsed)
    {
        var rate = bytes / Math.Max(elapsed.TotalSeconds, 1e-9);
        if (Packs)
            _packed = rate;
        else
            _plain = rate;
        if (_plain is { } plain && _packed is { } packed && ++_windows < WindowsUntilTrial(plain, packed))
        {
            Packs = packed > plain * Better;
            return;
        }

        _windows = 0;
        Packs = !Packs;
    }

    private static double WindowsUntilTrial(double plain, double packed)
    {
        var slower = Math.Max(plain, packed) / Math.Max(1, Math.Min(plain, packed));
        return Math.Min(TryOtherAfterAtMost, TryOtherAfter * slower * slower);
    }
}
