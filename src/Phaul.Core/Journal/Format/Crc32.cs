// The checksum of a journal's lines: CRC-32 as in zlib, gzip and PNG (reflected polynomial 0xEDB88320).

namespace Phaul.Journal;

/// <summary>
/// CRC-32 rather than a cut hash: what it guards against is torn and rotten lines, not forgers (who can write here is root). It finds
/// every change within 32 neighbouring bits for certain, and anybody can check a line with what their scripting language brings along.
/// </summary>
internal static class Crc32
{
    private static readonly uint[] Table = MakeTable();

    public static uint Of(ReadOnlySpan<byte> bytes) => Finish(Add(Start, bytes));

    public const uint Start = 0xFFFFFFFF;

    public static uint Add(uint running, ReadOnlySpan<byte> bytes)
    {
        foreach (var b in bytes)
            running = (running >> 8) ^ Table[(byte)(running ^ b)];
        return running;
    }

    public static uint Finish(uint running) => ~running;

    private static uint[] MakeTable()
    {
        var table = new uint[256];
        for (uint i = 0; i < 256; i++)
        {
            var value = i;
            for (var bit = 0; bit < 8; bit++)
                value = (value & 1) != 0 ? (value >> 1) ^ 0xEDB88320 : value >> 1;
            table[i] = value;
        }

        return table;
    }
}
