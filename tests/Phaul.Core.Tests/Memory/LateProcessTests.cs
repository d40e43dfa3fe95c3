// Memory that comes late, from the real kernel: this process's own, which moves it and gives it back while it lacks it.

using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Memory;

public sealed partial class LateProcessTests
{
    private const int Page = 4096;
    private const int Pages = 512;

    [SkippableFact]
    public async Task ItGetsWhatItTouchesAndThenTheRest()
    {
        using var memory = LateArea.Register();
        var runs = new TaskCompletionSource();
        var serving = memory.ServeAsync(runs.Task);

        // On demand, although nothing comes by itself yet
        await memory.SeeThatAsync(100, 100);
        await memory.SeeThatAsync(Pages - 1, Pages - 1);
        Assert.False(serving.IsCompleted);

        runs.SetResult();
        await serving.Within();
        for (int page = 0; page < Pages; page++)
            await memory.SeeThatAsync(page, page);
        Assert.Equal(Enumerable.Range(0, Pages), memory.Given.Order());
    }

    [SkippableFact]
    public async Task TheRestComesWheneverItBeginsToRun()
    {
        for (int round = 0; round < 100; round++)
        {
            using var memory = LateArea.Register();
            var runs = new TaskCompletionSource();
            var serving = memory.ServeAsync(runs.Task);
            // Just when it gets what it touches, as a tree does that is resumed
            var touching = memory.SeeThatAsync(100, 100);
            Assert.True(SpinWait.SpinUntil(() => memory.Given.Count > 0, TimeSpan.FromMinutes(1)));
            Thread.SpinWait(round * 20);
            runs.SetResult();
            await serving.Within();
            await touching;
        }
    }

    [SkippableFact]
    public async Task WhatItMovesItGetsWhereItIsThen()
    {
        using var memory = LateArea.Register();
        var runs = new TaskCompletionSource();
        var serving = memory.ServeAsync(runs.Task);

        nint elsewhere = await memory.MoveAsync(64, 128);
        await memory.SeeThatAsync(elsewhere, 0, 64);
        await memory.SeeThatAsync(elsewhere, 127, 191);
        runs.SetResult();
        await serving.Within();

        for (int page = 0; page < 128; page++)
            await memory.SeeThatAsync(elsewhere, page, page + 64);
        await memory.SeeThatAsync(0, 0);
        await memory.SeeThatAsync(192, 192);
    }

    [SkippableFact]
    public async Task WhatItGaveBackIsZeros()
    {
        using var memory = LateArea.Register();
        var runs = new TaskCompletionSource();
        var serving = memory.ServeAsync(runs.Task);

        await memory.SeeThatAsync(10, 10);
        await memory.GiveBackAsync(8, 16);
        for (int page = 8; page < 24; page++)
            await memory.SeeThatAsync(page, null);
        runs.SetResult();
        await serving.Within();

        await memory.SeeThatAsync(7, 7);
        await memory.SeeThatAsync(8, null);
        await memory.SeeThatAsync(23, null);
        await memory.SeeThatAsync(24, 24);
    }

    [SkippableFact]
    public async Task WhatItUnmappedIsNotGiven()
    {
        using var memory = LateArea.Register();
        var runs = new TaskCompletionSource();
        var serving = memory.ServeAsync(runs.Task);

        await memory.UnmapAsync(32, 400);
        runs.SetResult();
        await serving.Within();

        await memory.SeeThatAsync(31, 31);
        await memory.SeeThatAsync(432, 432);
        Assert.DoesNotContain(memory.Given, page => page is >= 40 and < 430);
    }

    [SkippableFact]
    public async Task AMappingThatWasSplitIsGivenByThePage()
    {
        using var memory = LateArea.Register();
        await memory.ProtectAsync(33, 1);
        await memory.ProtectAsync(100, 7);
        var serving = memory.ServeAsync(Task.CompletedTask);
        await serving.Within();
        for (int page = 0; page < Pages; page++)
            await memory.SeeThatAsync(page, page);
    }

    [SkippableFact]
    public async Task WhatWasNeverWrittenIsZeros()
    {
        using var memory = LateArea.Register(lacks: page => page % 3 != 0);
        var runs = new TaskCompletionSource();
        var serving = memory.ServeAsync(runs.Task);
        await memory.SeeThatAsync(30, null);
        await memory.SeeThatAsync(31, 31);
        runs.SetResult();
        await serving.Within();
        for (int page = 0; page < Pages; page++)
            await memory.SeeThatAsync(page, page % 3 == 0 ? null : page);
    }

    [SkippableFact]
    public async Task ManyThreadsThatMoveAndTouchAtTheSameTimeFindWhatBelongsThere()
    {
        using var memory = LateArea.Register();
        var serving = memory.ServeAsync(Task.CompletedTask, slowly: true);
        var threads = Enumerable.Range(0, 8).Select(async part =>
        {
            // Each has 64 pages of its own; what another does with its mappings holds its answers up
            int first = part * 64;
            await memory.SeeThatAsync(first + 5, first + 5);
            nint elsewhere = await memory.MoveAsync(first + 16, 16);
            await memory.SeeThatAsync(elsewhere, 3, first + 19);
            await memory.GiveBackAsync(first + 40, 8);
            await memory.SeeThatAsync(first + 44, null);
            await memory.UnmapAsync(first + 56, 4);
            await memory.SeeThatAsync(first + 63, first + 63);
            await memory.SeeThatAsync(elsewhere, 15, first + 31);
        }).ToArray();
        await Task.WhenAll(threads).Within();
        await serving.Within();
    }

    [SkippableFact]
    public async Task MemoryThatWasNeverReceivedIsAnError()
    {
        using var memory = LateArea.Register();
        memory.IsLost = true;
        var error = await Assert.ThrowsAsync<PhaulException>(() => memory.ServeAsync(Task.CompletedTask).Within());
        Assert.Equal(PhaulErrorId.RestoreFailed, error.ErrorId);
    }

    private static async Task ServeToEndAsync(LateProcess process, Task runs)
    {
        await process.ServeAsync(runs, CancellationToken.None);
        // As its server does: the kernel's zeros from now on, and nobody to tell
        process.Dispose();
    }

    /// <summary>An area of this process that waits for its memory. Touched in native code only: a collection waits for managed threads.</summary>
    private sealed unsafe partial class LateArea : IDisposable
    {
        private const int ProtectionReadWrite = 3;
        private const int PrivateAnonymous = 0x22;
        private const int MayMove = 1;
        private const int DontNeed = 4;
        private const nuint Api = 0xC018AA3F;
        private const nuint RegisterRange = 0xC020AA00;
        private const ulong Missing = 1;

        // Fork is told of criu's own descriptors; this process must not have its children's
        private const ulong Features = (1 << 2) | (1 << 3) | (1 << 6);

        private readonly UserFaultDescriptor _fault;
        private readonly nint _start;
        private readonly Func<int, bool> _lacks;

        private LateArea(UserFaultDescriptor fault, nint start, Func<int, bool> lacks) => (_fault, _start, _lacks) = (fault, start, lacks);

        public bool IsLost { get; set; }

        /// <summary>The pages that were asked for.</summary>
        public List<int> Given { get; } = [];

        public static LateArea Register(Func<int, bool>? lacks = null)
        {
            int number = (int)Syscall(RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 323 : 282, Libc.OpenCloseOnExec | Libc.OpenNonBlocking);
            Skip.If(number < 0, "userfaultfd is not to be had here: not root, or the kernel has none.");
            var fault = new UserFaultDescriptor(new SafeFileHandle(number, ownsHandle: true));
            ulong* api = stackalloc ulong[3] { 0xAA, Features, 0 };
            Libc.Check(Libc.Control(number, Api, api), "UFFDIO_API");
            nint start = Map(0, Pages * Page, ProtectionReadWrite, PrivateAnonymous, -1, 0);
            ulong* range = stackalloc ulong[4] { (ulong)start, Pages * Page, Missing, 0 };
            Libc.Check(Libc.Control(number, RegisterRange, range), "UFFDIO_REGISTER");
            return new LateArea(fault, start, lacks ?? (static _ => true));
        }

        public Task ServeAsync(Task runs, bool slowly = false)
        {
            const ulong image = 1 << 30;
            var ranges = new LateRanges(Enumerable.Range(0, Pages).Where(_lacks)
                .Aggregate(new List<LateRange>(), (ranges, page) =>
                {
                    ulong start = (ulong)_start + (ulong)(page * Page), from = image + (ulong)(page * Page);
                    if (ranges.Count > 0 && ranges[^1].End == start)
                        ranges[^1] = ranges[^1] with { End = start + Page };
                    else
                        ranges.Add(new LateRange(start, start + Page, from));
                    return ranges;
                }));
            var process = new LateProcess(
                _fault, ranges,
                (address, buffer) =>
                {
                    if (IsLost)
                        return new(0);
                    int length = slowly ? Page : buffer.Length;
                    for (int at = 0; at < length; at += Page)
                    {
                        int page = (int)((address - image) / Page) + (at / Page);
                        Given.Add(page);
                        buffer.Span.Slice(at, Page).Fill(ContentsOf(page));
                    }

                    return new(length);
                },
                static () => false,
                _ => throw new InvalidOperationException("Nobody forks."));
            return Task.Run(() => ServeToEndAsync(process, runs));
        }

        public Task SeeThatAsync(int page, int? contents) => SeeThatAsync(_start, page, contents);

        public Task SeeThatAsync(nint start, int page, int? contents) => Task.Run(() =>
        {
            byte* there = stackalloc byte[Page];
            Copy(there, (byte*)start + (page * Page), Page);
            byte expected = contents is { } of ? ContentsOf(of) : (byte)0;
            Assert.True(new ReadOnlySpan<byte>(there, Page).IndexOfAnyExcept(expected) < 0, $"page {page} is not that of {contents}");
        }).Within();

        public Task<nint> MoveAsync(int page, int count) => Task.Run(() =>
        {
            nint moved = Remap(_start + (page * Page), (nuint)(count * Page), (nuint)(count * Page), MayMove | 2, Reserve(count));
            return moved != -1 ? moved : throw Libc.Failure("mremap");
        }).Within();

        public Task GiveBackAsync(int page, int count) =>
            Task.Run(() => Libc.Check(Advise(_start + (page * Page), (nuint)(count * Page), DontNeed), "madvise")).Within();

        public Task UnmapAsync(int page, int count) =>
            Task.Run(() => Libc.Check(Unmap(_start + (page * Page), (nuint)(count * Page)), "munmap")).Within();

        // The same protection but for a flag that keeps the mappings apart: they are not merged again
        public Task ProtectAsync(int page, int count) =>
            Task.Run(() => Libc.Check(Advise(_start + (page * Page), (nuint)(count * Page), 16 /* MADV_DONTDUMP */), "madvise")).Within();

        // What it mapped stays: where it was moved or unmapped there may be something of the runtime's by now
        public void Dispose() => _fault.Dispose();

        private static nint Reserve(int count) => Map(0, (nuint)(count * Page), 0, PrivateAnonymous, -1, 0);

        private static byte ContentsOf(int page) => (byte)(1 + (page % 251));

        [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
        private static partial nint Syscall(nint number, nint first);

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        private static partial nint Map(nint address, nuint length, int protection, int flags, int descriptor, nint offset);

        [LibraryImport("libc", EntryPoint = "mremap", SetLastError = true)]
        private static partial nint Remap(nint address, nuint length, nuint newLength, int flags, nint newAddress);

        [LibraryImport("libc", EntryPoint = "madvise", SetLastError = true)]
        private static partial int Advise(nint address, nuint length, int advice);

        [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
        private static partial int Unmap(nint address, nuint length);

        [LibraryImport("libc", EntryPoint = "memcpy")]
        private static partial nint Copy(byte* to, byte* from, nuint length);
    }
}
