// Makes of CRIU's dumps of everything what a kernel that tracks dirty memory would make of them: what has not changed stays out.

using System.Net.Sockets;
using Phaul.Images.Pages;
using Phaul.Transport;

namespace Phaul.Tests.Images.Pages;

/// <summary>Between the real CRIU and the pages channel.</summary>
internal sealed class StandInForTracking(Socket criu, PhaulChannel channel, PageServerFormat format) : IDisposable
{
    private const int PageSize = 4096;

    private readonly NetworkStream _criu = new(criu, ownsSocket: true);
    private readonly SequenceReader _answers = new(channel);
    private readonly Dictionary<(ulong Owner, ulong Address), byte[]> _sent = [];

    /// <summary>Passes on one dump.</summary>
    public async Task RunOneAsync()
    {
        using var writer = new SequenceWriter(channel);
        var head = new byte[(int)format];
        while (true)
        {
            await _criu.ReadExactlyAsync(head);
            var header = PageServerHeader.Read(head, format);
            switch (header.Command)
            {
                case PageServerCommand.OpenAndAnswer:
                    await PassAsync(writer, head, answer: 1);
                    break;
                case PageServerCommand.HasParent:
                    await PassAsync(writer, head, answer: sizeof(int));
                    break;
                case PageServerCommand.Close or PageServerCommand.ForceClose:
                    await PassAsync(writer, head, answer: sizeof(int));
                    return;
                default:
                    for (ulong i = 0; i < header.Pages; i++)
                        await SendPageAsync(writer, header with { Address = header.Address + (i * PageSize), Pages = 1 });
                    break;
            }
        }
    }

    public void Dispose()
    {
        _answers.Dispose();
        _criu.Dispose();
    }

    private async Task SendPageAsync(SequenceWriter writer, PageServerHeader header)
    {
        var page = new byte[PageSize];
        await _criu.ReadExactlyAsync(page);
        var key = (header.Owner, header.Address);
        bool same = _sent.TryGetValue(key, out var before) && before.AsSpan().SequenceEqual(page);
        _sent[key] = page;
        var head = new byte[(int)format];
        (same ? header with { Flags = PagemapFlags.InParent } : header).Write(head, format);
        await writer.WriteAsync(head, default);
        if (!same)
            await writer.WriteAsync(page, default);
    }

    private async Task PassAsync(SequenceWriter writer, byte[] head, int answer)
    {
        await writer.WriteAsync(head, default);
        await writer.FlushAsync(default);
        var bytes = new byte[answer];
        Assert.True(await _answers.ReadExactlyAsync(bytes, default));
        // CRIU made no pre-dump and would miss what it should have left: as far as it knows, there is no parent
        await _criu.WriteAsync(new byte[answer]);
    }
}
