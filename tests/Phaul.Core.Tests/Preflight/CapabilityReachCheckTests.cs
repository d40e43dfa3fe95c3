// A program is only taken where the server may give it all capabilities that it has.

using Phaul.Preflight;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Tests.Preflight;

public class CapabilityReachCheckTests
{
    private const ulong NetAdmin = 1UL << 12;
    private const ulong SysTime = 1UL << 25;

    [Fact]
    public void WhatTheServerHasToo_IsNoObstacle() =>
        Assert.Empty(CapabilityReachCheck.Run(
            new TreeSurvey { Capabilities = NetAdmin }, new ProcStatus { EffectiveCapabilities = NetAdmin | SysTime }));

    [Fact]
    public void WhatTheServerLacks_IsNamedAndRefused()
    {
        var finding = Assert.Single(CapabilityReachCheck.Run(
            new TreeSurvey { Capabilities = NetAdmin | SysTime | (1UL << 60) }, new ProcStatus { EffectiveCapabilities = NetAdmin }));
        Assert.Equal(CheckVerdict.Failed, finding.Verdict);
        Assert.Contains("CAP_SYS_TIME, capability 60", finding.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("NET_ADMIN", finding.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CapabilitiesInAUserNamespaceOfItsOwn_AreNotCompared()
    {
        var survey = new TreeSurvey { Capabilities = ulong.MaxValue, OwnNamespaces = { "user" } };
        Assert.Equal(CheckVerdict.Skipped, Assert.Single(CapabilityReachCheck.Run(survey, new ProcStatus())).Verdict);
    }

    [Fact]
    public void PermittedAndInheritableCapabilities_CountAsWell()
    {
        var status = ProcStatus.Parse(
            "CapInh:\t0000000002000000\nCapPrm:\t0000000000001000\nCapEff:\t0000000000000001\nCapBnd:\tffffffffffffffff\n");
        Assert.Equal(1UL, status.EffectiveCapabilities);
        Assert.Equal(NetAdmin | SysTime | 1, status.AllCapabilities);
    }
}
