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
            Assert.False(HasEnded(pipes[i].Reading));
            holder.LetGo(pipes[i].Writing);
            Assert.False(HasEnded(pipes[i].Reading));
            pipes[i].Writing.Dispose();
            await SeeItEndAsync(pipes[i].Reading);
        }

        foreach (int i in new[] { 1, 18, 38 })
        {
            pipes[i].Writing.Dispose();
            Assert.False(HasEnded(pipes[i].Reading));
        }

        await holder.DisposeAsync();
        foreach (int i in new[] { 1, 18, 38 })
            await SeeItEndAsync(pipes[i].Reading);
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
            Assert.False(HasEnded(reading));

            Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary["other"]));
            Assert.Equal(0, await DescriptorHolder.EndThoseOfAsync(_temporary["image"]));
            Assert.False(HasEnded(reading));
            Assert.Equal(1, await DescriptorHolder.EndThoseOfAsync(_temporary["images"]));
            await SeeItEndAsync(reading);
        }
    }

    private static unsafe (SafeFileHandle Reading, SafeFileHandle Writing) Pipe()
    {
        var descriptors = stackalloc int[2];
        Libc.Check(Libc.Pipe(descriptors, Libc.OpenCloseOnExec), "pipe2");
        return (new SafeFileHandle(descriptors[0], ownsHandle: true), new SafeFileHandle(descriptors[1], ownsHandle: true));
    }

    private static unsafe bool HasEnded(SafeFileHandle reading)
    {
        var poll = new Libc.PollEntry { Descriptor = (int)reading.DangerousGetHandle(), Events = Libc.PollIn };
        return Libc.Check(Libc.Poll(&poll, 1, 0), "poll") > 0;
    }

    private static Task SeeItEndAsync(SafeFileHandle reading) => DescriptorWaiter.WaitReadableAsync(reading, default).Within();
}
