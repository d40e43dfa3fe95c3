// Takes out of CRIU's last dump what the destination has already.

using System.Buffers;
using System.Runtime.InteropServices;
using Phaul.Images.Pages;

namespace Phaul;

/// <summary>
/// Reads the page-server stream of a CRIU that dumps everything, and makes of it that of one that knows what has changed: pages that are
/// in the round before are said to be in the parent. Not for several threads.
/// </summary>
/// <param name="sent">What the destination has.</param>
/// <param name="format">What CRIU speaks.</param>
internal sealed class PageFilter(SentPages sent, PageServerFormat format)
{
    private static readonly int PageSize = Environment.SystemPageSize;

    private readonly ArrayBufferWriter<byte> _output = new(1 << 19);
    private readonly byte[] _partial = new byte[Math.Max(Environment.SystemPageSize, (int)PageServerFormat.Long)];
    private int _partialLength;
    private PageServerHeader _header;
    private ulong _pagesLeft;
    private PageOwner _owner;
    private bool _passesAll;
    private bool _runIsSame;
    private ulong _runPages;
    private ulong _runAddress;
    private int _runHeaderAt;
    private long _skipped;

    /// <summary>Pages that were taken out.</summary>
    public long PagesSkipped => Interlocked.Read(ref _skipped);

    /// <summary>Takes the next part of the stream, which may end anywhere.</summary>
    /// <param name="input">As CRIU wrote it.</param>
    /// <param name="expectsAnswer">CRIU waits for an answer now, and sends nothing before it has it: what there is must be sent.</param>
    /// <returns>What to send; valid until the next call.</returns>
    /// <exception cref="PhaulException">PageTransferFailed: CRIU's pages are of somebody unheard of.</exception>
    public ReadOnlyMemory<byte> Pass(ReadOnlySpan<byte> input, out bool expectsAnswer)
    {
        _output.ResetWrittenCount();
        expectsAnswer = false;
        while (!input.IsEmpty)
        {
            int wanted = _pagesLeft > 0 ? PageSize : (int)format;
            ReadOnlySpan<byte> whole;
            if (_partialLength == 0 && input.Length >= wanted)
            {
                whole = input[..wanted];
                input = input[wanted..];
            }
            else
            {
                int count = Math.Min(wanted - _partialLength, input.Length);
                input[..count].CopyTo(_partial.AsSpan(_partialLength));
                input = input[count..];
                _partialLength += count;
                if (_partialLength < wanted)
                    break;
                whole = _partial.AsSpan(0, wanted);
                _partialLength = 0;
            }

            if (_pagesLeft > 0)
                PassPage(whole);
            else
                expectsAnswer = PassHeader(whole);
        }

        // Its length stands before it
        if (!_runIsSame)
            EndRun();
        return _output.WrittenMemory;
    }

    private bool PassHeader(ReadOnlySpan<byte> bytes)
    {
        EndRun();
        _header = PageServerHeader.Read(bytes, format);
        switch (_header.Command)
        {
            case PageServerCommand.Add:
            case PageServerCommand.AddWithFlags when _header.Flags.HasFlag(PagemapFlags.Present):
                _owner = PageOwner.FromWire(_header.Owner);
                // Of somebody unheard of; and the pages at the stack pointers, which CRIU wants to be there at once (criu/mem.c, is_stack): one by one, and not lazy
                _passesAll = !sent.Has(_owner) || (_header.Pages == 1 && !_header.Flags.HasFlag(PagemapFlags.Lazy));
                _pagesLeft = _header.Pages;
                return false;
            default:
                _output.Write(bytes);
                return _header.Command is not (PageServerCommand.AddWithFlags or PageServerCommand.Hole);
        }
    }

    private void PassPage(ReadOnlySpan<byte> page)
    {
        ulong address = _header.Address + ((_header.Pages - _pagesLeft) * (ulong)PageSize);
        bool isSame = !_passesAll && sent.Has(_owner, address, sent.HashOf(page));
        if (_runPages > 0 && _runIsSame != isSame)
            EndRun();
        if (_runPages == 0)
            BeginRun(address, isSame);
        if (isSame)
            Interlocked.Increment(ref _skipped);
        else
            _output.Write(page);
        _runPages++;
        if (--_pagesLeft == 0)
            EndRun();
    }

    private void BeginRun(ulong address, bool isSame)
    {
        (_runAddress, _runIsSame, _runHeaderAt) = (address, isSame, _output.WrittenCount);
        if (isSame)
            return;
        _output.GetSpan((int)format);
        _output.Advance((int)format);
    }

    private void EndRun()
    {
        if (_runPages == 0)
            return;
        var header = _header with { Address = _runAddress, Pages = _runPages };
        if (_runIsSame)
        {
            (header with { Command = PageServerCommand.AddWithFlags, Flags = PagemapFlags.InParent }).Write(_output.GetSpan((int)format), format);
            _output.Advance((int)format);
        }
        else
        {
            header.Write(MemoryMarshal.AsMemory(_output.WrittenMemory).Span[_runHeaderAt..], format);
        }

        (_runPages, _runIsSame) = (0, false);
    }
}
