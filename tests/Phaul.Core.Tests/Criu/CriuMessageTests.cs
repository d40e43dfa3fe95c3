// The RPC messages: field numbers, defaults, what is unset, what is unknown.
using Google.Protobuf;
using Phaul.Criu.Rpc;

namespace Phaul.Tests.Criu;

public sealed class CriuMessageTests
{
    // As public in CRIU 4.2's rpc.proto: the message's fields in the order of their numbers.
    [Theory]
    [InlineData("CriuOpts", "1-39,41-71")]
    [InlineData("CriuRequest", "1-6")]
    [InlineData("CriuResponse", "1-11")]
    [InlineData("CriuFeatures", "1-3")]
    [InlineData("CriuNotify", "1-2")]
    [InlineData("CriuVersionInfo", "1-6")]
    [InlineData("PageServerInfo", "1-4")]
    public void Every_field_of_CRIU_4_2_is_there(string message, string numbers)
    {
        var expected = numbers.Split(',').Select(range => range.Split('-').Select(int.Parse).ToArray())
            .SelectMany(range => Enumerable.Range(range[0], range[1] - range[0] + 1));
        var type = RpcReflection.Descriptor.MessageTypes.Single(type => type.Name == message);
        Assert.Equal(expected, type.Fields.InFieldNumberOrder().Select(field => field.FieldNumber));
    }

    [Fact]
    public void Every_request_type_is_there() =>
        Assert.Equal(Enumerable.Range(0, 14), Enum.GetValues<CriuRequestKind>().Select(kind => (int)kind));

    [Fact]
    public void Defaults_are_CRIUs_and_unset_is_not_sent()
    {
        var options = new CriuOpts();
        Assert.Equal((-1, 2, 0xffffffffu, 0x100000u), (options.ImagesDirFd, options.LogLevel, options.CpuCap, options.GhostLimit));
        Assert.Equal((CriuPreDumpMode.Splice, CriuNetworkLockMethod.Iptables), (options.PreDumpMode, options.NetworkLock));
        Assert.False(options.HasImagesDirFd || options.HasCpuCap || options.HasGhostLimit || options.HasPreDumpMode);
        Assert.Empty(options.ToByteArray());
        options.GhostLimit = 0x100000;
        Assert.True(options.HasGhostLimit);
        Assert.NotEmpty(options.ToByteArray());
    }

    [Fact]
    public void Fields_of_a_later_CRIU_survive()
    {
        var known = new CriuOpts { ImagesDirFd = 7 }.ToByteArray();
        byte[] later = [.. known, 0x80, 0x08, 0x2a, 0x8a, 0x08, 0x02, 0x68, 0x69]; // 128: 42, 129: "hi"
        Assert.Equal(later, CriuOpts.Parser.ParseFrom(later).ToByteArray());
        Assert.Equal(later, new CriuOpts(CriuOpts.Parser.ParseFrom(later)).ToByteArray());
    }
}
