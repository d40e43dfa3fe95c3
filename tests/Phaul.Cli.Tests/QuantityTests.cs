// Sizes and spans of time as they are typed and shown.

using Phaul.Cli.Arguments;

namespace Phaul.Cli.Tests;

public class QuantityTests
{
    [Theory]
    [InlineData("0", 0)]
    [InlineData("4096", 4096)]
    [InlineData("4096B", 4096)]
    [InlineData("1K", 1024)]
    [InlineData("100M", 100L << 20)]
    [InlineData("100m", 100L << 20)]
    [InlineData("100MiB", 100L << 20)]
    [InlineData("100MB", 100_000_000)]
    [InlineData("1.5G", 3L << 29)]
    [InlineData("2 T", 2L << 40)]
    [InlineData("10M/s", 10L << 20)]
    public void ASizeIsRead(string text, long bytes)
    {
        Assert.True(ByteSize.TryParse(text, out var parsed));
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("M")]
    [InlineData("-1")]
    [InlineData("1,5M")]
    [InlineData("1.5.2M")]
    [InlineData("10Q")]
    [InlineData("10Mi")]
    [InlineData("10 M B")]
    [InlineData("9223372036854775808")]
    [InlineData("8388608T")]
    [InlineData("99999999999999999999999999999999999T")]
    public void WhatIsNoSizeIsRefused(string text) => Assert.False(ByteSize.TryParse(text, out _));

    [Theory]
    [InlineData("500ms", 500)]
    [InlineData("0s", 0)]
    [InlineData("2s", 2000)]
    [InlineData("1.5s", 1500)]
    [InlineData("5m", 300_000)]
    [InlineData("5min", 300_000)]
    [InlineData("1m30s", 90_000)]
    [InlineData("1h", 3_600_000)]
    public void ASpanIsRead(string text, double milliseconds)
    {
        Assert.True(Duration.TryParse(text, out var parsed));
        Assert.Equal(TimeSpan.FromMilliseconds(milliseconds), parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("10")]
    [InlineData("s")]
    [InlineData("-1s")]
    [InlineData("1d")]
    [InlineData("1s 5")]
    [InlineData("1..5s")]
    [InlineData("9000h")]
    [InlineData("8000h8000h")]
    public void WhatIsNoSpanIsRefused(string text) => Assert.False(Duration.TryParse(text, out _));

    [Theory]
    [InlineData(0, "0 ms")]
    [InlineData(105.4, "105 ms")]
    [InlineData(1500, "1.5 s")]
    [InlineData(90_000, "1 min 30 s")]
    [InlineData(7_260_000, "2 h 1 min")]
    public void ASpanIsShownInAUnitThatSuits(double milliseconds, string text) =>
        Assert.Equal(text, Duration.Format(TimeSpan.FromMilliseconds(milliseconds)));
}
