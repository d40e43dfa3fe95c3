// Waiting for descriptors: woken by what happens, by cancelling, and by nothing else.
using System.Net.Sockets;
using Phaul.Native;

namespace Phaul.Tests.Native;

public sealed class DescriptorWaiterTests
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task A_thousand_waits_hold_no_thread_and_all_end()
    {
        var pairs = Enumerable.Range(0, 250).Select(_ => SocketPair.CreateStream()).ToList();
        // Four waits for each descriptor: it may be waited for more than once.
        var waits = pairs.SelectMany(pair => Enumerable.Range(0, 4)
            .Select(_ => DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, default))).ToList();
        Assert.DoesNotContain(waits, wait => wait.IsCompleted);
        Assert.True(ThreadPool.ThreadCount < 250);
        foreach (var (_, second) in pairs) second.Send([1]);
        await Task.WhenAll(waits).WaitAsync(Failsafe);
        pairs.ForEach(pair => Close(pair));
    }

    [Fact]
    public async Task Cancelling_ends_a_wait_and_leaves_the_others()
    {
        var pair = SocketPair.CreateStream();
        using var cancel = new CancellationTokenSource();
        var cancelled = DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, cancel.Token);
        var other = DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, default);
        await cancel.CancelAsync();
        Assert.Equal(cancel.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled)).CancellationToken);
        Assert.False(other.IsCompleted);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, cancel.Token));
        pair.Second.Send([1]);
        await other.WaitAsync(Failsafe);
        Close(pair);
    }

    [Fact]
    public async Task A_number_that_is_given_out_again_is_not_mistaken()
    {
        for (var round = 0; round < 50; round++)
        {
            var first = SocketPair.CreateStream();
            using var cancel = new CancellationTokenSource();
            var wait = DescriptorWaiter.WaitReadableAsync(first.First.SafeHandle, cancel.Token);
            first.First.Dispose();
            var second = SocketPair.CreateStream(); // gets the number
            second.Second.Send([1]); // and is readable
            await DescriptorWaiter.WaitReadableAsync(second.First.SafeHandle, default).WaitAsync(Failsafe);
            Assert.False(wait.IsCompleted);
            await cancel.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => wait);
            first.Second.Dispose();
            Close(second);
        }
    }

    [Fact]
    public async Task The_peers_end_is_told_even_with_data_unread()
    {
        var pair = SocketPair.CreateStream();
        pair.Second.Send([1]);
        var closed = DescriptorWaiter.WaitPeerClosedAsync(pair.First.SafeHandle, default);
        await DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, default).WaitAsync(Failsafe);
        Assert.False(closed.IsCompleted);
        pair.Second.Dispose();
        await closed.WaitAsync(Failsafe);
        pair.First.Dispose();
    }

    [Fact]
    public async Task Racing_cancels_and_events_lose_nothing()
    {
        const int seed = 7;
        var random = new Random(seed);
        for (var round = 0; round < 500; round++)
        {
            var pair = SocketPair.CreateStream();
            using var cancel = new CancellationTokenSource();
            var wait = DescriptorWaiter.WaitReadableAsync(pair.First.SafeHandle, cancel.Token);
            var spin = random.Next(200);
            var send = Task.Run(() =>
            {
                Thread.SpinWait(spin);
                pair.Second.Send([1]);
            });
            cancel.Cancel();
            await wait.ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(Failsafe);
            Assert.True(wait.IsCompletedSuccessfully || wait.IsCanceled, $"seed {seed}, round {round}: {wait.Status}");
            await send;
            Close(pair);
        }
    }

    [Fact]
    public async Task What_cannot_be_waited_for_says_so()
    {
        using var file = File.OpenHandle("/etc/passwd");
        await Assert.ThrowsAsync<NativeException>(() => DescriptorWaiter.WaitReadableAsync(file, default)); // epoll takes no plain files
    }

    private static void Close((Socket First, Socket Second) pair)
    {
        pair.First.Dispose();
        pair.Second.Dispose();
    }
}
