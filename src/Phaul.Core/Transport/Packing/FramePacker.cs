// Packs frames on their way out, where that has them arrive sooner.

using System.Runtime.InteropServices;

namespace Phaul.Transport;

/// <summary>For one channel. Not for several threads.</summary>
/// <param name="always">Pack whatever becomes shorter, whether that is quicker or not.</param>
internal sealed class FramePacker(bool always)
{
    private const long Window = 1 << 20;
    private const int Sample = 8 << 10;
    private const double WorthPacking = 0.9;
    private const int ZeroProbes = 64;

    private readonly byte[] _scratch = new byte[Sample * 2];
    private readonly PackingPolicy _policy = new();
    private long _bytes;
    private TimeSpan _elapsed;

    /// <summary>Packs a payload, if it is to be.</summary>
    /// <param name="payload">What is to be sent.</param>
    /// <param name="packed">Room for as much.</param>
    /// <returns>How long it is packed; 0: to be sent as it is.</returns>
    public int TryPack(ReadOnlySpan<byte> payload, Span<byte> packed)
    {
        if (payload.Length < Sample)
            return 0;
        var isEmpty = IsMostlyZeros(payload);
        if (!always && !_policy.Packs && !isEmpty)
            return 0;
        // What does not become shorter shows in a piece of it
        if (!isEmpty && Lz4Block.Pack(Middle(payload), _scratch.AsSpan(0, (int)(Sample * WorthPacking))) == 0)
            return 0;
        return Lz4Block.Pack(payload, packed[..(int)(payload.Length * WorthPacking)]);
    }

    /// <summary>A payload has gone.</summary>
    /// <param name="bytes">Its length before packing.</param>
    /// <param name="elapsed">How long packing it took, and until it was taken.</param>
    public void Sent(int bytes, TimeSpan elapsed)
    {
        _bytes += bytes;
        _elapsed += elapsed;
        if (_bytes < Window)
            return;
        _policy.Observe(_bytes, _elapsed);
        (_bytes, _elapsed) = (0, TimeSpan.Zero);
    }

    private static ReadOnlySpan<byte> Middle(ReadOnlySpan<byte> payload) => payload.Slice((payload.Length - Sample) / 2, Sample);

    private static bool IsMostlyZeros(ReadOnlySpan<byte> payload)
    {
        var words = MemoryMarshal.Cast<byte, ulong>(payload);
        var step = Math.Max(1, words.Length / ZeroProbes);
        var (zeros, looks) = (0, 0);
        for (var i = step / 2; i < words.Length; i += step, looks++)
        {
            if (words[i] == 0)
                zeros++;
        }

        return zeros * 4 >= looks * 3;
    }
}
