// Bytes of a journal in, records out: finds the lines, checks their order, and tells a torn end from corruption.

using System.Globalization;

namespace Phaul.Journal;

/// <summary>Takes a journal's bytes in pieces of any size. It stops for good at the first corruption.</summary>
internal sealed class JournalScanner
{
    private byte[] _partial = new byte[4096];
    private int _partialLength;
    private int _line;
    private long _sequence;

    /// <summary>The number of the last record, 0 before the first.</summary>
    public long Sequence => _sequence;

    /// <summary>What is wrong, and where; null if nothing is.</summary>
    public JournalCorruption? Corruption { get; private set; }

    /// <summary>The highest version of the format that was met, if this version of Phaul does not know it.</summary>
    public int? NewerVersion { get; private set; }

    /// <summary>Bytes were taken that do not belong to a complete line.</summary>
    public bool HasPartialLine => _partialLength > 0;

    /// <summary>Takes the next bytes and adds the records that they complete.</summary>
    public void Take(ReadOnlySpan<byte> bytes, List<JournalRecord> records)
    {
        while (Corruption is null && !bytes.IsEmpty)
        {
            var newline = bytes.IndexOf((byte)'\n');
            var piece = newline < 0 ? bytes : bytes[..newline];
            if (piece.Length > JournalLine.MaxBytes + JournalLine.TornMark.Length - _partialLength)
            {
                Corruption = new(_line + 1, "the line is too long");
                return;
            }

            Keep(piece);
            if (newline < 0)
                return;
            _line++;
            TakeLine(records);
            _partialLength = 0;
            bytes = bytes[(newline + 1)..];
        }
    }

    /// <summary>
    /// There is no more. A last line without its newline is a record if it is whole: only its newline was lost. Otherwise it is torn.
    /// </summary>
    /// <returns>Whether the last line is torn.</returns>
    public bool End(List<JournalRecord> records)
    {
        if (Corruption is not null || _partialLength == 0)
            return false;
        var (record, version, _) = JournalLine.Decode(_partial.AsMemory(0, _partialLength));
        if (record is null)
            return true;
        _line++;
        Accept(record, version, records);
        return false;
    }

    private void Keep(ReadOnlySpan<byte> piece)
    {
        if (_partial.Length < _partialLength + piece.Length)
            Array.Resize(ref _partial, Math.Max(_partial.Length * 2, _partialLength + piece.Length));
        piece.CopyTo(_partial.AsSpan(_partialLength));
        _partialLength += piece.Length;
    }

    private void TakeLine(List<JournalRecord> records)
    {
        var line = _partial.AsMemory(0, _partialLength);
        if (JournalLine.IsMarkedTorn(line.Span))
            return;
        var (record, version, fault) = JournalLine.Decode(line);
        if (record is null)
            Corruption = new(_line, fault!);
        else
            Accept(record, version, records);
    }

    private void Accept(JournalRecord record, int version, List<JournalRecord> records)
    {
        if (record.Sequence != _sequence + 1)
        {
            Corruption = new(
                _line, string.Create(CultureInfo.InvariantCulture, $"it is record {record.Sequence} where {_sequence + 1} was to come"));
            return;
        }

        if (_sequence == 0 && record is not Begun && version == JournalLine.Version)
        {
            Corruption = new(_line, "the first record does not say which migration this is");
            return;
        }

        if (version > JournalLine.Version)
            NewerVersion = Math.Max(version, NewerVersion ?? 0);
        _sequence = record.Sequence;
        records.Add(record);
    }
}
