// What a check found, before anything is touched.

namespace Phaul;

/// <summary>The verdict of a check.</summary>
public enum CheckVerdict
{
    /// <summary>Nothing stands in the way.</summary>
    Passed,

    /// <summary>The migration may go on; an operator should read it.</summary>
    Warning,

    /// <summary>The migration would fail; it is refused.</summary>
    Failed,

    /// <summary>It could not be checked, or does not apply; <see cref="CheckResult.Message"/> says why.</summary>
    Skipped,
}

/// <summary>One check on one host.</summary>
/// <param name="Name">A stable, short name: <c>CriuVersion</c>, <c>FreePids</c>, <c>Files</c> …</param>
/// <param name="Side">The host that was checked.</param>
/// <param name="Host">Its name.</param>
/// <param name="Verdict">The verdict.</param>
/// <param name="Message">What was found, in a sentence.</param>
/// <param name="Remedy">What to do about it; null if nothing needs doing.</param>
public sealed record CheckResult(string Name, MigrationSide Side, string Host, CheckVerdict Verdict, string Message, string? Remedy = null);
