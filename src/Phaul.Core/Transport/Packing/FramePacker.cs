// Packs frames on their way out, where that has them arrive sooner.

using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Phaul.Transport;

/// <summary>
/// For one channel. In between it measures: how fast the peer takes what is sent, how long packing takes and how much it saves.
/// Not for several threads.
/// </summary>
/// <param name="always">Pack whatever becomes shorter, whether that is quicker or not.</param>
internal sealed class FramePacker(bool always)
{
    // A decision is made anew after so much; sockets take some of it at once, and look faster than the way behind them is
    private const long Window = 4 << 20;
    private const int Sample = 8 << 10;
    private const double WorthPacking = 0.9;
    private const int ZeroProbes = 64;

    private readonly byte[] _scratch = new byte[Sample * 2];
    private long _windowWire;
    private long _windowRaw;
    private TimeSpan _windowTime;
    private double _secondsPerByte;
    private double _ratio = 1;
    private bool _packs;

    /// <summary>Packs a payload, if it is to be.</summary>
    /// <param name="payload">What is to be sent.</param>
    /// <param name="packed">Room for as much.</param>
    /// <returns>How long it is packed; 0: to be sent as it is.</returns>
    public int TryPack(ReadOnlySpan<byte> payload, Span<byte> packed)
    {
        if (payload.Length < Sample)
            return 0;
        if (_windowRaw == 0)
            Measure(Middle(payload));
        _windowRaw += payload.Length;
        var isEmpty = IsMostlyZeros(payload);
        if (!always && !_packs && !isEmpty)
            return 0;
        // What does not become shorter shows in a piece of it
        if (!isEmpty && Lz4Block.Pack(Middle(payload), _scratch.AsSpan(0, (int)(Sample * WorthPacking))) == 0)
            return 0;
        return Lz4Block.Pack(payload, packed[..(int)(payload.Length * WorthPacking)]);
    }

    /// <summary>Something was sent.</summary>
    /// <param name="wireBytes">So much.</param>
    /// <param name="elapsed">So long did it take until it was taken.</param>
    public void Sent(int wireBytes, TimeSpan elapsed)
    {
        _windowWire += wireBytes;
        _windowTime += elapsed;
        if (_windowRaw < Window)
            return;
        _packs = _windowTime > TimeSpan.Zero && PackingPolicy.IsWorthWhile(_windowWire / _windowTime.TotalSeconds, _secondsPerByte, _ratio);
        (_windowRaw, _windowWire, _windowTime) = (0, 0, TimeSpan.Zero);
    }

    private void Measure(ReadOnlySpan<byte> sample)
    {
        var began = Stopwatch.GetTimestamp();
        var length = Lz4Block.Pack(sample, _scratch);
        _secondsPerByte = Stopwatch.GetElapsedTime(began).TotalSeconds / sample.Length;
        _ratio = length > 0 ? (double)length / sample.Length : 1;
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
