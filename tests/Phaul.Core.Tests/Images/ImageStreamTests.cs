// The image stream: exactly what was there arrives, and nothing that a peer invents does harm.

using System.Buffers.Binary;
using System.Security.Cryptography;
using Google.Protobuf;
using Phaul.Images;
using Phaul.Images.Wire;
using Phaul.Tests.Transport;
using Phaul.Transport;

namespace Phaul.Tests.Images;

public sealed class ImageStreamTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();
    private readonly string _from;
    private readonly string _to;

    public ImageStreamTests()
    {
        _from = _temporary.MakeDirectory("from");
        _to = _temporary.MakeDirectory("to");
    }

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task WhatIsSentIsExactlyWhatArrives()
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        await using ConnectedPair pair = await ConnectedPair.OverTlsAsync();
        for (int sequence = 0; sequence < 4; sequence++)
        {
            string from = _temporary.MakeDirectory($"from-{sequence}");
            string to = _temporary.MakeDirectory($"to-{sequence}");
            var expected = new SortedDictionary<string, string>(StringComparer.Ordinal);
            for (int i = random.Next(0, 60); i > 0; i--)
            {
                var content = new byte[random.Next(10) == 0 ? random.Next(1 << 20) : random.Next(500)];
                random.NextBytes(content);
                File.WriteAllBytes(Path.Combine(from, $"core-{i}.img"), content);
                expected[$"core-{i}.img"] = Convert.ToHexString(SHA256.HashData(content));
            }

            File.WriteAllText(Path.Combine(from, "dump.log"), "no image");
            File.WriteAllText(Path.Combine(from, "pages-1.img"), "pages travel elsewhere");
            File.CreateSymbolicLink(Path.Combine(from, "parent"), "../from-0");
            File.CreateSymbolicLink(Path.Combine(from, "link.img"), "/etc/passwd");
            Directory.CreateDirectory(Path.Combine(from, "directory.img"));
            var progress = new Reports();

            Task<ImageTotals> receiving = ImageReceiver.ReceiveAsync(
                to, pair.Destination.OpenChannel(ChannelId.Images), durable: sequence == 0);
            ImageTotals sent = await ImageSender.SendAsync(from, pair.Source.OpenChannel(ChannelId.Images), progress: progress).Within();
            ImageTotals received = await receiving.Within();

            Assert.Equal(sent, received);
            Assert.Equal(expected.Count, received.Count);
            Assert.Equal(received.Bytes, progress.Last);
            Assert.Equal(expected.Keys, Directory.EnumerateFileSystemEntries(to).Select(Path.GetFileName).Order(StringComparer.Ordinal)!);
            foreach ((string name, string hash) in expected)
            {
                string path = Path.Combine(to, name);
                Assert.True(hash == Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(path))), $"seed {seed}: {name}");
                Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(path));
            }
        }
    }

    [Fact]
    public async Task PagesTravelWhereAskedFor()
    {
        File.WriteAllText(Path.Combine(_from, "pages-1.img"), "pages");
        File.WriteAllText(Path.Combine(_from, "core-1.img"), "core");
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        Task<ImageTotals> receiving = ImageReceiver.ReceiveAsync(_to, pair.Destination.OpenChannel(ChannelId.Images));

        await ImageSender.SendAsync(_from, pair.Source.OpenChannel(ChannelId.Images), name => name.IsPages).Within();

        Assert.Equal(new ImageTotals(1, 5), await receiving.Within());
        Assert.Equal("pages", File.ReadAllText(Path.Combine(_to, "pages-1.img")));
    }

    [Theory]
    [InlineData("../evil.img")]
    [InlineData("/tmp/evil.img")]
    [InlineData("a/evil.img")]
    [InlineData("..")]
    [InlineData("")]
    [InlineData("evil\u001b[2J.sh")]
    public async Task ANameThatIsNoneIsRefused(string name)
    {
        PhaulException thrown = await RefusedAsync(Image(name, [1, 2, 3]));

        Assert.Contains("not the plain name", thrown.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', thrown.Message);
        Assert.Equal([_from, _to], Directory.GetFileSystemEntries(_temporary.Path).Order());
    }

    [Fact]
    public async Task AnExistingNameIsRefusedAndNoLinkFollowed()
    {
        string precious = _temporary["precious"];
        File.WriteAllText(precious, "precious");
        File.CreateSymbolicLink(Path.Combine(_to, "core-1.img"), precious);
        File.CreateSymbolicLink(Path.Combine(_to, "core-2.img"), _temporary["dangling"]);
        File.WriteAllText(Path.Combine(_to, "core-3.img"), "mine");

        foreach (string name in (string[])["core-1.img", "core-2.img", "core-3.img"])
            Assert.Contains("exists already", (await RefusedAsync(Image(name, [1]))).Message, StringComparison.Ordinal);

        Assert.Equal("precious", File.ReadAllText(precious));
        Assert.False(File.Exists(_temporary["dangling"]));
        Assert.Equal("mine", File.ReadAllText(Path.Combine(_to, "core-3.img")));
    }

    [Fact]
    public async Task ADuplicateIsRefused()
    {
        PhaulException thrown = await RefusedAsync([.. Image("core-1.img", [1]), .. Image("core-1.img", [2])]);

        Assert.Contains("exists already", thrown.Message, StringComparison.Ordinal);
        Assert.Equal([1], File.ReadAllBytes(Path.Combine(_to, "core-1.img")));
    }

    [Fact]
    public async Task AWrongHashIsNoticedAndTheImageRemoved()
    {
        byte[] bytes = Image("core-1.img", [1, 2, 3]);
        bytes[^1] ^= 1;

        Assert.Contains("SHA-256 differs", (await RefusedAsync(bytes)).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(_to));
    }

    [Fact]
    public async Task LimitsHoldBeforeAnythingIsWritten()
    {
        byte[] large = Item(new ImageItem { Image = new ImageHeader { Name = "core-1.img", Size = 1001 } });
        PhaulException thrown = await RefusedAsync(large, new ImageLimits { MaxTotalBytes = 1000 });
        Assert.Contains("more than 1000 bytes", thrown.Message, StringComparison.Ordinal);

        byte[] huge = Item(new ImageItem { Image = new ImageHeader { Name = "core-1.img", Size = ulong.MaxValue } });
        thrown = await RefusedAsync(huge, new ImageLimits { MaxTotalBytes = long.MaxValue });
        Assert.Contains("bytes of images", thrown.Message, StringComparison.Ordinal);

        PhaulException full = await RefusedAsync(large, new ImageLimits { MinFreeBytes = long.MaxValue / 2 });
        Assert.Contains("too little room", full.Message, StringComparison.Ordinal);
        Assert.NotNull(full.RecommendedAction);
        Assert.Empty(Directory.GetFileSystemEntries(_to));

        byte[] two = [.. Image("core-1.img", new byte[600]), .. Image("core-2.img", new byte[600])];
        Assert.Contains(
            "more than 1000 bytes", (await RefusedAsync(two, new ImageLimits { MaxTotalBytes = 1000 })).Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_to, "core-1.img"));
        Assert.Contains(
            "more than 1 images", (await RefusedAsync(two, new ImageLimits { MaxFiles = 1 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AManifestThatDoesNotFitIsRefused()
    {
        byte[] one = Image("core-1.img", [1]);
        Assert.Contains("manifest names", (await RefusedAsync([.. one, .. Manifest(2, 1)])).Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_to, "core-1.img"));
        Assert.Contains("manifest names", (await RefusedAsync([.. one, .. Manifest(1, 2)])).Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_to, "core-1.img"));
        Assert.Contains("without the manifest", (await RefusedAsync(one)).Message, StringComparison.Ordinal);
        File.Delete(Path.Combine(_to, "core-1.img"));
        Assert.Contains("after the manifest", (await RefusedAsync([.. one, .. Manifest(1, 1), 0])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhateverBytesComeNothingButWholeImagesIsLeft()
    {
        int seed = Environment.TickCount;
        var random = new Random(seed);
        for (int round = 0; round < 100; round++)
        {
            var content = new byte[random.Next(1, 2000)];
            random.NextBytes(content);
            byte[] bytes = [.. Image("core-1.img", content), .. Image("core-2.img", content), .. Manifest(2, 2 * content.Length)];
            bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
            bytes = bytes[..random.Next(1, bytes.Length)];
            string to = _temporary.MakeDirectory($"round-{round}");
            await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
            Task<ImageTotals> receiving = ImageReceiver.ReceiveAsync(to, pair.Destination.OpenChannel(ChannelId.Images));
            await SendRawAsync(pair, bytes);

            var thrown = await Assert.ThrowsAsync<PhaulException>(() => receiving.Within());

            Assert.True(thrown.ErrorId == PhaulErrorId.ImageTransferFailed, $"seed {seed}, round {round}: {thrown}");
            // A name may have been hit, and then is another plain name; content is whole or not there.
            foreach (string path in Directory.EnumerateFileSystemEntries(to))
                Assert.True(File.ReadAllBytes(path).AsSpan().SequenceEqual(content), $"seed {seed}, round {round}: {path}");
        }
    }

    [Fact]
    public async Task AnImageThatChangesWhileItIsSentIsAnError()
    {
        foreach (bool grows in (bool[])[true, false])
        {
            string path = Path.Combine(_from, "core-1.img");
            File.WriteAllBytes(path, new byte[1 << 20]);
            await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
            var change = new Reports { OnFirst = () => Resize(path, grows ? 2 << 20 : 1) };

            var thrown = await Assert.ThrowsAsync<PhaulException>(
                () => ImageSender.SendAsync(_from, pair.Source.OpenChannel(ChannelId.Images), progress: change).Within());

            Assert.Equal(PhaulErrorId.ImageTransferFailed, thrown.ErrorId);
            Assert.EndsWith(grows ? "2097152 bytes instead of 1048576." : "instead of 1048576.", thrown.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task ALostConnectionLeavesNoHalfImage()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        var begun = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var progress = new Reports { OnFirst = () => begun.TrySetResult() };
        Task<ImageTotals> receiving = ImageReceiver.ReceiveAsync(_to, pair.Destination.OpenChannel(ChannelId.Images), progress: progress);
        byte[] image = Image("core-1.img", new byte[5000]);
        PhaulChannel channel = pair.Source.OpenChannel(ChannelId.Images);
        PooledFrame frame = channel.RentFrame();
        image.AsSpan(0, 1000).CopyTo(frame.Payload.Span);
        await channel.SendAsync(frame, 1000);
        await begun.Task.Within();
        Assert.Single(Directory.GetFileSystemEntries(_to));

        await pair.Source.DisposeAsync();

        Assert.Equal(PhaulErrorId.ConnectionLost, (await Assert.ThrowsAsync<PhaulException>(() => receiving.Within())).ErrorId);
        Assert.Empty(Directory.GetFileSystemEntries(_to));
    }

    [Fact]
    public async Task ADirectoryThatOthersCanUseIsRefused()
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        PhaulChannel channel = pair.Destination.OpenChannel(ChannelId.Images);
        File.SetUnixFileMode(_to, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead);
        string link = _temporary["link"];
        Directory.CreateSymbolicLink(link, _from);

        foreach (string directory in (string[])[_to, link, _temporary["missing"]])
        {
            var thrown = await Assert.ThrowsAsync<PhaulException>(() => ImageReceiver.ReceiveAsync(directory, channel).Within());
            Assert.Equal(PhaulErrorId.ImageTransferFailed, thrown.ErrorId);
        }
    }

    private static byte[] Image(string name, byte[] content) =>
    [
        .. Item(new ImageItem { Image = new ImageHeader { Name = name, Size = (ulong)content.Length } }),
        .. content,
        .. SHA256.HashData(content),
    ];

    private static void Resize(string path, long length)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        file.SetLength(length);
    }

    private static byte[] Manifest(int count, long total) =>
        Item(new ImageItem { Manifest = new ImageManifest { Count = (uint)count, TotalBytes = (ulong)total } });

    private static byte[] Item(ImageItem item)
    {
        byte[] message = item.ToByteArray();
        var length = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(length, message.Length);
        return [.. length, .. message];
    }

    private static async Task SendRawAsync(ConnectedPair pair, byte[] bytes)
    {
        using var writer = new SequenceWriter(pair.Source.OpenChannel(ChannelId.Images));
        await writer.WriteAsync(bytes, default);
        await writer.EndAsync(default);
    }

    private async Task<PhaulException> RefusedAsync(byte[] bytes, ImageLimits? limits = null)
    {
        await using ConnectedPair pair = await ConnectedPair.OverSocketPairAsync();
        Task<ImageTotals> receiving = ImageReceiver.ReceiveAsync(_to, pair.Destination.OpenChannel(ChannelId.Images), limits);
        await SendRawAsync(pair, bytes);
        var thrown = await Assert.ThrowsAsync<PhaulException>(() => receiving.Within());
        Assert.Equal(PhaulErrorId.ImageTransferFailed, thrown.ErrorId);
        return thrown;
    }

    /// <summary>Takes reports at once, not some time later on another thread.</summary>
    private sealed class Reports : IProgress<long>
    {
        private int _count;

        public Action? OnFirst { get; init; }

        public long Last { get; private set; }

        public void Report(long value)
        {
            Last = value;
            if (_count++ == 0)
                OnFirst?.Invoke();
        }
    }
}
