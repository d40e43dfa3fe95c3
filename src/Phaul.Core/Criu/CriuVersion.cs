// The version of a CRIU, comparable.
namespace Phaul.Criu;

/// <summary>A version of CRIU.</summary>
/// <param name="GitId">What it was built from, or null for a release.</param>
public sealed record CriuVersion(int Major, int Minor, int Sublevel = 0, string? GitId = null) : IComparable<CriuVersion>
{
    /// <summary>Orders by number; what it was built from does not count.</summary>
    public int CompareTo(CriuVersion? other) => other is null
        ? 1
        : (Major, Minor, Sublevel).CompareTo((other.Major, other.Minor, other.Sublevel));

    /// <summary>Whether it is that version or a later one.</summary>
    public bool IsAtLeast(int major, int minor = 0, int sublevel = 0) => CompareTo(new CriuVersion(major, minor, sublevel)) >= 0;

    /// <summary>For instance "4.2" or "4.2.1".</summary>
    public override string ToString() => Sublevel == 0 ? $"{Major}.{Minor}" : $"{Major}.{Minor}.{Sublevel}";

    /// <summary>Whether the left one is earlier.</summary>
    public static bool operator <(CriuVersion left, CriuVersion right) => left.CompareTo(right) < 0;

    /// <summary>Whether the left one is later.</summary>
    public static bool operator >(CriuVersion left, CriuVersion right) => left.CompareTo(right) > 0;

    /// <summary>Whether the left one is not later.</summary>
    public static bool operator <=(CriuVersion left, CriuVersion right) => left.CompareTo(right) <= 0;

    /// <summary>Whether the left one is not earlier.</summary>
    public static bool operator >=(CriuVersion left, CriuVersion right) => left.CompareTo(right) >= 0;
}
