// The page store with the real CRIU: a program whose memory came in two iterations runs before it has it, and gets all of it.

using Phaul.Criu;
using Phaul.Criu.Rpc;
using Phaul.Images.Pages;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Tests.Criu;
using Phaul.Tests.Transport;
using Phaul.Transport;

namespace Phaul.Tests.Images.Pages;

[Collection(nameof(RealCriuCollection))]
public sealed class PageStoreTests(RealCriu real) : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [SkippableFact]
    public async Task AChainIsRestoredWithMostOfItsMemoryLate()
    {
        await using var chain = await ChainAsync(RememberingProgram.Script);
        await using var held = await chain.RestoreAsync();

        Assert.True(held.IsLazy);
        await held.ResumeAsync().Within();
        await chain.Program.SeeItCountAsync();
        await held.WaitForMemoryAsync(default).Within();
        await chain.Program.SeeItCountAsync();

        // Most of its memory had been sent before the last iteration
        long early = chain.Late.Values.Sum(pieces => pieces.Where(piece => piece.Image == chain.Earlier).Sum(piece => (long)piece.Pages));
        Assert.True(early > chain.Store.LatePages / 2, $"{early} of {chain.Store.LatePages} pages");
    }

    [SkippableFact]
    public async Task AProgramThatForksWhileItGetsItsMemoryGetsAllOfIt()
    {
        await using var chain = await ChainAsync(RememberingProgram.ForkingScript);
        await using var held = await chain.RestoreAsync();

        await held.ResumeAsync().Within();
        await chain.Program.SeeItCountAsync();
        await held.WaitForMemoryAsync(default).Within();
        await chain.Program.SeeItCountAsync();
    }

    [SkippableFact]
    public async Task ATreeThatIsDiscardedLeavesNoDaemon()
    {
        await using var chain = await ChainAsync(RememberingProgram.Script);
        var held = await chain.RestoreAsync();

        Assert.True(await held.DiscardAsync().Within());
        await held.DisposeAsync().AsTask().Within();

        Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary.Path));
    }

    [SkippableFact]
    public async Task ADaemonThatNobodyCameToIsFoundAndEnded()
    {
        await using var chain = await ChainAsync(RememberingProgram.Script);
        string images = chain.Images.WorkDirectory;
        await using var daemon = await LazyPagesDaemon.StartAsync(real.Require(), images, 2, default);

        Assert.Equal(1, await LazyPagesDaemon.EndThoseOfAsync(_temporary.Path));

        await Assert.ThrowsAsync<PhaulException>(() => daemon.WaitAsync(default).Within());
        Assert.True(daemon.WasKilled);
    }

    [SkippableFact]
    public async Task OnlyWhatWasReceivedIsGiven()
    {
        await using var chain = await ChainAsync(RememberingProgram.Script);
        var piece = chain.Late.Values.First()[0];
        var buffer = new byte[4096 * 4];

        Assert.Equal(0, await chain.Store.ReadAsync((ulong)chain.Program.Pid, piece.Address - 4096, buffer));
        Assert.Equal(0, await chain.Store.ReadAsync(1, piece.Address, buffer));
        Assert.InRange(await chain.Store.ReadAsync((ulong)chain.Program.Pid, piece.Address, buffer), 4096, buffer.Length);
    }

    /// <summary>Moves the memory of a program as pre-copy would, without a kernel that tracks it: a dump after which it runs on, and one more.</summary>
    private async Task<Chain> ChainAsync(string script)
    {
        string criuPath = real.Require();
        var program = await CountingProgram.StartAsync(script);
        try
        {
            return await ChainOfAsync(program, criuPath);
        }
        catch
        {
            await program.DisposeAsync();
            throw;
        }
    }

    private async Task<Chain> ChainOfAsync(CountingProgram program, string criuPath)
    {
        var pair = await ConnectedPair.OverSocketPairAsync();
        var (criuEnd, tracking) = SocketPair.CreateStream(1 << 20);
        using var _ = criuEnd;
        await using var source = new CriuClient(new CriuClientOptions { CriuPath = criuPath, MemorySocket = criuEnd });
        var format = PageServerHeader.FormatOf(await source.GetVersionAsync());
        var receiver = new PageReceiver(pair.Destination.OpenChannel(ChannelId.Pages), new PageReceiverOptions { Format = format });
        using var tracker = new StandInForTracking(tracking, pair.Source.OpenChannel(ChannelId.Pages), format);
        string received = "", sent = "";
        for (int iteration = 0; iteration < 2; iteration++)
        {
            if (iteration > 0)
                await program.SeeItCountAsync();
            received = _temporary.MakeDirectory($"received-{iteration}");
            sent = _temporary.MakeDirectory($"sent-{iteration}");
            using var directory = DirectoryDescriptor.Open(sent);
            var receiving = receiver.ReceiveAsync(received, default);
            var relaying = tracker.RunOneAsync();
            await source.DumpAsync(new CriuOpts
            {
                Pid = program.Pid,
                ImagesDirFd = (int)directory.DangerousGetHandle(),
                LogFile = "dump.log",
                LeaveRunning = iteration == 0,
                Ps = new PageServerInfo { Fd = source.MemoryDescriptor },
            }).Within();
            await relaying.Within();
            await receiving.Within();
        }

        await program.Child.WaitForExitAsync(default).Within();
        // Nor may a child that was dumped with it have its pid any more
        foreach (var image in receiver.Iterations[^1].Images)
        {
            while (Directory.Exists($"/proc/{image.Owner.Id}"))
                await Task.Delay(5).Within();
        }

        foreach (string path in Directory.GetFiles(sent, "*.img"))
            File.Copy(path, Path.Combine(received, Path.GetFileName(path)));
        var store = PageStore.Compose(receiver.Iterations[^1], _temporary["late"]);
        Assert.NotNull(store);
        var images = new LateImages(store.ImagesDirectory, received, store);
        return new Chain(pair, receiver, program, store, images, criuPath);
    }

    private sealed record Chain(
        ConnectedPair Pair, PageReceiver Receiver, CountingProgram Program, PageStore Store, LateImages Images, string CriuPath) : IAsyncDisposable
    {
        private readonly CriuClient _criu = new(new CriuClientOptions { CriuPath = CriuPath });

        public PageImage Earlier { get; } = Receiver.Iterations[0].Images.Single(image => image.Owner.Id == (ulong)Program.Pid);

        public IReadOnlyDictionary<ulong, IReadOnlyList<PagePiece>> Late =>
            Receiver.Iterations[^1].Images.ToDictionary(
                image => image.Owner.Id, image => (IReadOnlyList<PagePiece>)image.Pieces.Where(piece => piece.MayBeLate).ToArray());

        public Task<HeldTree> RestoreAsync() => HeldTree.RestoreLazilyAsync(_criu, CriuPath, Images, new ProcessOptions { LogLevel = 4 }, default).Within();

        public async ValueTask DisposeAsync()
        {
            await Program.DisposeAsync();
            await _criu.DisposeAsync();
            await Pair.DisposeAsync();
            Receiver.Dispose();
        }
    }
}

/// <summary>Programs that have memory to lose: each step checks what the first ones wrote down.</summary>
internal static class RememberingProgram
{
    private const string Begin = """
        exec 3<> <(:)
        for ((k=0; k<20000; k++)); do a[k]=$((k * 7)); done
        i=0
        while :; do
          for ((k=i*331%19000, e=k+200; k<e; k++)); do [[ ${a[k]} == $((k * 7)) ]] || { echo "lost $k" >>"$0"; exit 1; }; done
          b[i%500]=$i
        """;

    private const string End = """
          i=$((i+1)); echo $i >>"$0"; read -t 0.02 -u 3
        done
        """;

    public const string Script = Begin + "\n" + End;

    public const string ForkingScript =
        Begin + "\n" + """(for ((k=i*577%19000, e=k+200; k<e; k++)); do [[ ${a[k]} == $((k * 7)) ]] || exit 1; done) || { echo "lost in a child" >>"$0"; exit 1; }""" + "\n" + End;
}
