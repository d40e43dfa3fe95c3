// What the destination has of each page, by its hash.

using System.IO.Hashing;
using System.Security.Cryptography;
using Phaul.Images.Pages;

namespace Phaul;

/// <summary>
/// The pages of one round: 16 bytes for each, in blocks. Two pages are taken for the same if their 128-bit hashes are, which begin with a number
/// that no program can know: of a million million pages, the chance that two others agree is one in 10^14.
/// </summary>
internal sealed class SentPages
{
    private const int BlockPages = 64;
    private static readonly ulong BlockSize = (ulong)BlockPages * (ulong)Environment.SystemPageSize;

    private readonly long _seed;
    private readonly Dictionary<PageOwner, Dictionary<ulong, UInt128[]>> _owners = [];

    /// <summary>Nothing yet.</summary>
    public SentPages()
        : this(BitConverter.ToInt64(RandomNumberGenerator.GetBytes(sizeof(long))))
    {
    }

    private SentPages(long seed) => _seed = seed;

    /// <summary>An empty one, whose hashes can be compared with this one's.</summary>
    public SentPages Next() => new(_seed);

    /// <summary>A page's hash; never 0.</summary>
    public UInt128 HashOf(ReadOnlySpan<byte> page)
    {
        var hash = XxHash128.HashToUInt128(page, _seed);
        return hash == UInt128.Zero ? UInt128.One : hash;
    }

    /// <summary>Whether a page is there, with these contents.</summary>
    public bool Has(PageOwner owner, ulong address, UInt128 hash) =>
        _owners.TryGetValue(owner, out var blocks) && blocks.TryGetValue(address / BlockSize, out var block) && block[IndexOf(address)] == hash;

    /// <summary>Whether there is any page of an owner: of others no page need be hashed.</summary>
    public bool Has(PageOwner owner) => _owners.ContainsKey(owner);

    /// <summary>Forgets an owner.</summary>
    public void Remove(PageOwner owner) => _owners.Remove(owner);

    /// <summary>Enters a page.</summary>
    public void Add(PageOwner owner, ulong address, UInt128 hash)
    {
        if (!_owners.TryGetValue(owner, out var blocks))
            _owners.Add(owner, blocks = []);
        if (!blocks.TryGetValue(address / BlockSize, out var block))
            blocks.Add(address / BlockSize, block = new UInt128[BlockPages]);
        block[IndexOf(address)] = hash;
    }

    private static int IndexOf(ulong address) => (int)(address % BlockSize / (ulong)Environment.SystemPageSize);
}
