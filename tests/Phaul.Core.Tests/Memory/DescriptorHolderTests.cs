// Descriptors that somebody else holds: they outlive whoever gave them away, and go when they are let go of.

using Microsoft.Win32.SafeHandles;
using Phaul.Memory;
using Phaul.Native;
using Phaul.Tests.Transport;

namespace Phaul.Tests.Memory;

public sealed class DescriptorHolderTests : IDisposable
{
    private readonly TemporaryDirectory _temporary = new();

    public void Dispose() => _temporary.Dispose();

    [Fact]
    public async Task WhatIsHeldStaysOpenUntilItIsLetGoOf()
    {
        await using var holder = DescriptorHolder.Start(_temporary["images"]);
        var pipes = Enumerable.Range(0, 40).Select(_ => Pipe()).ToArray();
        foreach (var (_, writing) in pipes)
            Assert.True(holder.TryHold(writing));

        // In no order, and each by itself: the writing end was the last but for the holder's
        foreach (int i in new[] { 17, 0, 39, 20 })
        {
            Assert.False(await HasEndedAsync(pipes[i].Reading));
            holder.LetGo(pipes[i].Writing);
            Assert.False(await HasEndedAsync(pipes[i].Reading));
            pipes[i].Writing.Dispose();
            Assert.True(await HasEndedAsync(pipes[i].Reading));
        }

        foreach (int i in new[] { 1, 18, 38 })
        {
            pipes[i].Writing.Dispose();
            Assert.False(await HasEndedAsync(pipes[i].Reading));
        }

        await holder.DisposeAsync();
        foreach (int i in new[] { 1, 18, 38 })
            Assert.True(await HasEndedAsync(pipes[i].Reading));
        foreach (var (reading, writing) in pipes)
        {
            reading.Dispose();
            writing.Dispose();
        }
    }

    [Fact]
    public async Task OneThatWasLeftIsFoundByWhatItHoldsMemoryOf()
    {
        var holder = DescriptorHolder.Start(_temporary["images/0"]);
        var (reading, writing) = Pipe();
        using (reading)
        {
            Assert.True(holder.TryHold(writing));
            writing.Dispose();
            await holder.ReleaseAsync();
            Assert.False(await HasEndedAsync(reading));

            Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary["other"]));
            Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary["image"]));
            Assert.False(await HasEndedAsync(reading));
            Assert.Equal(1, await DescriptorHolder.EndThoseOfAsync(_temporary["images"]));
            Assert.True(await HasEndedAsync(reading));
        }
    }

    private static unsafe (SafeFileHandle Reading, SafeFileHandle Writing) Pipe()
    {
        var descriptors = stackalloc int[2];
        Libc.Check(Libc.Pipe(descriptors, Libc.OpenCloseOnExec), "pipe2");
        return (new SafeFileHandle(descriptors[0], ownsHandle: true), new SafeFileHandle(descriptors[1], ownsHandle: true));
    }

    // Not a matter of time: what the kernel has closed it says at once
    private static async Task<bool> HasEndedAsync(SafeFileHandle reading)
    {
        using var none = new CancellationTokenSource(TimeSpan.FromMilliseconds(20));
        try
        {
            await DescriptorWaiter.WaitReadableAsync(reading, none.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }
}
