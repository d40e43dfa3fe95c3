// The checks of one host: each is made, whatever the others find, and gives one result in bounded time.

namespace Phaul.Preflight;

/// <summary>Something that a check came across.</summary>
/// <param name="Verdict">How bad it is.</param>
/// <param name="Message">What it is, in a sentence.</param>
/// <param name="Remedy">What to do about it.</param>
internal sealed record Finding(CheckVerdict Verdict, string Message, string? Remedy = null);

/// <summary>Checks to be made on one host.</summary>
/// <param name="side">Which host.</param>
/// <param name="host">Its name.</param>
/// <param name="limit">How long each may take.</param>
internal sealed class CheckList(MigrationSide side, string host, TimeSpan limit)
{
    /// <summary>How long a check may take.</summary>
    public static readonly TimeSpan DefaultLimit = TimeSpan.FromSeconds(20);

    private const int NamedFindings = 5;

    private readonly List<(string Name, Func<CancellationToken, Task<IReadOnlyList<Finding>>> Check)> _checks = [];

    /// <summary>Adds a check that waits for something.</summary>
    /// <param name="name">Its stable name.</param>
    /// <param name="check">What it finds; nothing is said of what is in order except by a finding of that verdict.</param>
    public void Add(string name, Func<CancellationToken, Task<IReadOnlyList<Finding>>> check) => _checks.Add((name, check));

    /// <summary>Adds a check that only looks at files and memory.</summary>
    public void Add(string name, Func<CancellationToken, IEnumerable<Finding>> check) =>
        _checks.Add((name, token => OnItsOwnThread(check, token)));

    /// <summary>Adds a check that looks at something which has to be found out first.</summary>
    public void AddAfter<T>(string name, Task<T> subject, Func<T, IEnumerable<Finding>> check) => _checks.Add((name, async token =>
    {
        var found = await subject.WaitAsync(token).ConfigureAwait(false);
        return await OnItsOwnThread(_ => check(found), token).ConfigureAwait(false);
    }
    ));

    /// <summary>Makes all checks, side by side; results in the order in which they were added.</summary>
    public async Task<IReadOnlyList<CheckResult>> RunAsync(CancellationToken cancellationToken) =>
        await Task.WhenAll(_checks.Select(check => RunAsync(check.Name, check.Check, cancellationToken))).ConfigureAwait(false);

    // Not one of the pool's: a dead network file system can hold it for ever, and must not keep the others from being made.
    private static Task<IReadOnlyList<Finding>> OnItsOwnThread(
        Func<CancellationToken, IEnumerable<Finding>> check, CancellationToken token) =>
        Task.Factory.StartNew<IReadOnlyList<Finding>>(
            () => [.. check(token)], token, TaskCreationOptions.LongRunning, TaskScheduler.Default);

    private async Task<CheckResult> RunAsync(
        string name, Func<CancellationToken, Task<IReadOnlyList<Finding>>> check, CancellationToken cancellationToken)
    {
        using var bounded = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        bounded.CancelAfter(limit);
        try
        {
            // Not waited for beyond the limit, whether it heeds its token or not.
            var findings = await check(bounded.Token).WaitAsync(bounded.Token).ConfigureAwait(false);
            return Summarise(name, findings);
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            return new CheckResult(
                name, side, host, CheckVerdict.Warning, $"It could not be checked within {limit.TotalSeconds:0} s.",
                "See whether a file system or criu hangs on this host.");
        }
        catch (OperationCanceledException)
        {
            throw;
        }
        catch (Exception e)
        {
            return new CheckResult(name, side, host, CheckVerdict.Warning, $"It could not be checked: {e.Message}");
        }
    }

    private CheckResult Summarise(string name, IReadOnlyList<Finding> findings)
    {
        if (findings.Count == 0) return new CheckResult(name, side, host, CheckVerdict.Passed, "Nothing stands in the way.");
        var worst = findings.MaxBy(finding => Rank(finding.Verdict))!.Verdict;
        // Skipped and Passed are said only where there is nothing worse to say.
        var said = findings.Where(finding => finding.Verdict == worst || finding.Verdict is CheckVerdict.Failed or CheckVerdict.Warning)
            .OrderByDescending(finding => Rank(finding.Verdict)).ToList();
        string message = string.Join(" ", said.Take(NamedFindings).Select(finding => finding.Message));
        if (said.Count > NamedFindings) message += $" And {said.Count - NamedFindings} more.";
        string remedy = string.Join(" ", said.Take(NamedFindings).Select(finding => finding.Remedy).OfType<string>().Distinct());
        return new CheckResult(name, side, host, worst, message, remedy.Length == 0 ? null : remedy);
    }

    private static int Rank(CheckVerdict verdict) => verdict switch
    {
        CheckVerdict.Failed => 3,
        CheckVerdict.Warning => 2,
        CheckVerdict.Passed => 1,
        _ => 0,
    };
}
