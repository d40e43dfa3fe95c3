// One migration into which one thing goes wrong, and what there is afterwards.

using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Phaul.Tests.Lab;

namespace Phaul.Tests.Faults;

/// <summary>Moves a program, has a fault happen, recovers as an operator would, and looks at what is left.</summary>
public sealed class FaultRun(LabFixture lab)
{
    private const string StateDirectory = "/var/lib/phaul-faults";
    private const string PeerTimeout = "2s";

    /// <summary>Where a lost program is.</summary>
    public const string Nowhere = "-";

    // Longer than the time-outs of both sides
    private static readonly TimeSpan AWhile = TimeSpan.FromSeconds(3);
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    // A library between Phaul and the clock: the machine's own time is not the lab's to change
    private const string ClockFile = $"{StateDirectory}/clock";

    private static readonly string[] OwnClock =
    [
        "env", "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", $"FAKETIME_TIMESTAMP_FILE={ClockFile}", "FAKETIME_NO_CACHE=1",
        "DONT_FAKE_MONOTONIC=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ];

    private PhaulRun? _server;
    private bool _serverHasOwnClock;
    private int _round;

    /// <summary>What came of a fault.</summary>
    /// <param name="Hit">The fault reached something.</param>
    /// <param name="Where">The host on which the program is afterwards.</param>
    /// <param name="Resolved">How many times `phaul resolve` was needed.</param>
    /// <param name="Failure">What is wrong; null if nothing is.</param>
    /// <param name="Elapsed">How long it took, with recovery.</param>
    /// <param name="FromTheHandOver">
    /// It had begun to run when whoever brought its memory was lost, and goes on from the hand-over: what it had done is done again.
    /// </param>
    public sealed record Outcome(bool Hit, string Where, int Resolved, string? Failure, TimeSpan Elapsed, bool FromTheHandOver = false);

    /// <summary>Disks that can be filled, and a link on which copying takes long enough to be met.</summary>
    public async Task PrepareAsync()
    {
        await lab.ResetAsync();
        foreach (var host in (LabHost[])[lab.A, lab.B])
            await host.RunAsync("sh", "-c", $"mkdir -p {StateDirectory} && mount -t tmpfs -o size=128m,mode=0700 phaul {StateDirectory}");
        await lab.LimitAsync("400mbit");
    }

    public async Task EndAsync()
    {
        if (_server is not null)
            await _server.DisposeAsync();
        await lab.ResetAsync();
        foreach (var host in (LabHost[])[lab.A, lab.B])
            await host.TryAsync("umount", "-l", StateDirectory);
    }

    public async Task<Outcome> RunAsync(Fault fault)
    {
        var clock = Stopwatch.StartNew();
        TestProgram? program = null;
        var (hit, resolved, where) = (false, 0, "");
        PhaulRun? migration = null;
        try
        {
            foreach (var host in (LabHost[])[lab.A, lab.B])
                Set(host, "+0");
            await ServeAsync(ownClock: fault.Actor == Actor.DestinationClock);
            program = await TestProgram.StartWithLogAsync(lab, lab.A, $"{LabFixture.Programs}/counter", $"counter-{_round++}", fault.MayLose ? "32" : "8", "20");
            migration = PhaulRun.StartUnder(
                lab.A, fault.Actor == Actor.SourceClock ? OwnClock : [], "migrate", $"{program.Pid}", "--state-directory", StateDirectory, "--peer-timeout", PeerTimeout, "--connect-timeout", "3s",
                lab.B.Address, "--trust", lab.B.Fingerprint, "--mode", fault.Mode == MigrationMode.StopAndCopy ? "auto" : $"{fault.Mode}");
            var ended = migration.ExitAsync();
            hit = await HappenAsync(fault, ended);
            await ServeAsync(_serverHasOwnClock);
            await ended.WaitAsync(Limit);
            resolved = await ResolveAsync(lab.A) + await ResolveAsync(lab.B);
            var memoryWasLost = MemoryWasLost();
            if (fault.MayLose && memoryWasLost)
            {
                where = Nowhere;
                await IsLostAsync();
            }
            else
            {
                where = await CheckAsync(program, memoryWasLost);
            }

            await HostsAreCleanAsync(where);
            return new Outcome(hit, where, resolved, null, clock.Elapsed, memoryWasLost);
        }
        catch (Exception exception)
        {
            return new Outcome(hit, where, resolved, $"{exception.GetType().Name}: {exception.Message}\n{migration?.Story()}\n{_server?.Story()}", clock.Elapsed);
        }
        finally
        {
            if (migration is not null)
                await migration.DisposeAsync();
            await TidyAsync(program);
        }
    }

    private async Task ServeAsync(bool ownClock)
    {
        if (_server is not null && ownClock == _serverHasOwnClock && HostProcesses.Of(lab.B, "phaul").Count > 0)
            return;
        if (_server is not null)
        {
            HostProcesses.KillAll(HostProcesses.Of(lab.B, "phaul"));
            await _server.DisposeAsync();
        }

        _serverHasOwnClock = ownClock;
        _server = PhaulRun.StartUnder(
            lab.B, ownClock ? OwnClock : [], "serve", "--state-directory", StateDirectory, "--peer-timeout", PeerTimeout, "--resolve", "--trust", lab.A.Fingerprint);
        await _server.WaitForAsync("listening", line => line.GetProperty("event").GetString() == "listening");
    }

    private async Task<bool> HappenAsync(Fault fault, Task ended)
    {
        if (!await ComesAsync(fault.Moment, ended))
            return false;
        if (fault.Delay > TimeSpan.Zero)
            await Task.Delay(fault.Delay);
        switch (fault.Actor)
        {
            case Actor.LinkCut:
                await lab.CutAsync();
                await Task.Delay(AWhile);
                await lab.MendAsync();
                return true;
            case Actor.LinkDrop:
                await lab.DropAsync();
                await Task.Delay(AWhile);
                await lab.UndropAsync();
                return true;
            case Actor.SourceDisk or Actor.DestinationDisk:
                var host = fault.Actor == Actor.SourceDisk ? lab.A : lab.B;
                var filler = host.PathOf($"{StateDirectory}/filler");
                Fill(filler);
                await Task.WhenAny(ended, Task.Delay(AWhile));
                File.Delete(filler);
                return true;
        }

        if (fault.Actor is Actor.SourceClock or Actor.DestinationClock)
        {
            var host = fault.Actor == Actor.SourceClock ? lab.A : lab.B;
            Set(host, fault.Failing == Failing.ForGood ? "+1d" : "-1d");
            await Task.WhenAny(ended, Task.Delay(AWhile));
            Set(host, "+0");
            return HasJumped(host);
        }

        var processes = fault.Actor switch
        {
            Actor.SourcePhaul => HostProcesses.Of(lab.A, "phaul"),
            Actor.SourceCriu => HostProcesses.CriuOf(lab.A),
            Actor.DestinationPhaul => HostProcesses.Of(lab.B, "phaul"),
            _ => HostProcesses.CriuOf(lab.B),
        };
        if (fault.Failing == Failing.ForGood)
            return HostProcesses.KillAll(processes) > 0;
        var stopped = HostProcesses.StopAll(processes);
        await Task.Delay(AWhile);
        HostProcesses.ContinueAll(processes);
        return stopped > 0;
    }

    // Watched from outside, a thousand times a second: the fault comes within a few milliseconds of the record
    private async Task<bool> ComesAsync(Moment moment, Task ended)
    {
        var (host, file, record) = moment switch
        {
            Moment.SourceChecking => (lab.A, "source", Entered("Checking")),
            Moment.SourceFreezing => (lab.A, "source", Entered("Freezing")),
            Moment.SourceTransferring => (lab.A, "source", Entered("Transferring")),
            Moment.SourceCommitting => (lab.A, "source", "\"kind\":\"commitIntent\""),
            Moment.SourceTreeGone => (lab.A, "source", "\"kind\":\"treeGone\""),
            Moment.DestinationReceiving => (lab.B, "destination", Entered("Receiving")),
            Moment.DestinationRestoring => (lab.B, "destination", Entered("Restoring")),
            Moment.DestinationPrepared => (lab.B, "destination", Entered("Prepared")),
            Moment.DestinationCommitting => (lab.B, "destination", Entered("Committing")),
            Moment.DestinationResuming => (lab.B, "destination", "\"kind\":\"resuming\""),
            _ => (lab.B, "destination", Entered("Running")),
        };
        var directory = host.PathOf($"{StateDirectory}/migrations");
        return await Task.Run(() =>
        {
            while (!ended.IsCompleted)
            {
                if (Directory.Exists(directory)
                    && Directory.GetDirectories(directory).Max() is { } newest
                    && Path.Combine(newest, $"{file}.jsonl") is var journal
                    && File.Exists(journal)
                    && Text(journal).Contains(record, StringComparison.Ordinal))
                {
                    return true;
                }

                Thread.Sleep(1);
            }

            return false;
        });
    }

    private static string Entered(string state) => $"\"state\":\"{state}\"";

    private static string Text(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    /// <summary>Whether a journal of the newest migration has times that cannot be: the library was there, and Phaul looked at the clock.</summary>
    private static bool HasJumped(LabHost host)
    {
        var newest = Directory.GetDirectories(host.PathOf($"{StateDirectory}/migrations")).Max()!;
        return Directory.GetFiles(newest, "*.jsonl").Any(journal => Regex.Matches(Text(journal), "\"time\":\"([^\"]+)\"").Any(
            time => Math.Abs((DateTimeOffset.Parse(time.Groups[1].Value, CultureInfo.InvariantCulture) - DateTimeOffset.UtcNow).TotalHours) > 12));
    }

    // In one step: it is read a thousand times a second
    private static void Set(LabHost host, string clock)
    {
        var file = host.PathOf(ClockFile);
        File.WriteAllText(file + ".new", clock);
        File.Move(file + ".new", file, overwrite: true);
    }

    private static void Fill(string path)
    {
        using var stream = new FileStream(path, new FileStreamOptions { Mode = FileMode.Create, Access = FileAccess.Write, BufferSize = 0 });
        var piece = new byte[1 << 20];
        for (var length = piece.Length; length > 0;)
        {
            try
            {
                stream.Write(piece, 0, length);
            }
            catch (IOException)
            {
                length /= 2;
            }
        }
    }

    /// <summary>As an operator would: until nothing remains.</summary>
    /// <returns>How many sides were settled.</returns>
    private static async Task<int> ResolveAsync(LabHost host)
    {
        var settled = 0;
        for (var end = DateTime.UtcNow + Limit; ; await Task.Delay(300))
        {
            await using var resolve = PhaulRun.Start(host, "resolve", "--all", "--state-directory", StateDirectory);
            var code = await resolve.ExitAsync();
            settled += resolve.Events.Count(line => line.GetProperty("event").GetString() == "resolution" && line.GetProperty("outcome").GetString() == "Settled");
            if (code == 0)
                return settled;
            if (DateTime.UtcNow > end)
                throw new TimeoutException($"phaul resolve on {host.Name} does not come to an end: {resolve.Story()}");
        }
    }

    private bool MemoryWasLost() => Directory.Exists(lab.B.PathOf($"{StateDirectory}/migrations"))
        && Directory.GetFiles(lab.B.PathOf($"{StateDirectory}/migrations"), "destination.jsonl", SearchOption.AllDirectories)
            .Any(journal => Text(journal).Contains("\"kind\":\"memoryLost\"", StringComparison.Ordinal));

    private async Task<string> CheckAsync(TestProgram program, bool mayRepeat)
    {
        var (onA, onB) = (await lab.A.CountAsync("counter"), await lab.B.CountAsync("counter"));
        if (onA + onB != 1)
            throw new InvalidOperationException($"{onA} on a and {onB} on b");
        var host = onA == 1 ? lab.A : lab.B;
        await program.AssertRunsOnlyOnAsync(host, () => "", mayRepeat);
        return host.Name;
    }

    /// <summary>Its memory was on the source alone: there is nothing of it on either host, and both know.</summary>
    private async Task IsLostAsync()
    {
        var (onA, onB) = (await lab.A.CountAsync("counter"), await lab.B.CountAsync("counter"));
        if (onA + onB != 0)
            throw new InvalidOperationException($"lost, but {onA} on a and {onB} on b");
    }

    private async Task HostsAreCleanAsync(string where)
    {
        await Task.WhenAll(IsCleanAsync(lab.A, where), IsCleanAsync(lab.B, where));
        if (where == "b" && Directory.GetDirectories(lab.A.PathOf($"{StateDirectory}/images")).Concat(Directory.GetDirectories(lab.B.PathOf($"{StateDirectory}/images"))).FirstOrDefault() is { } images)
            throw new InvalidOperationException($"images are left: {images}");
    }

    private static async Task IsCleanAsync(LabHost host, string where)
    {
        // One that has lost its server first finishes what it is at, and then undoes it
        var criu = HostProcesses.Of(host, "criu");
        for (var looks = 0; criu.Count > 0 && looks < 100; looks++, criu = HostProcesses.Of(host, "criu"))
            await Task.Delay(100);
        if (criu.Count > 0)
            throw new InvalidOperationException($"left on {host.Name}: {string.Join(", ", criu)}");
        await using var history = PhaulRun.Start(host, "history", "--newest", "1", "--state-directory", StateDirectory);
        await history.ExitAsync();
        // A destination that was never reached has no record
        if (history.Events.Count == 0 && where == "a")
            return;
        JsonElement last = history.Last("migration");
        var isThere = last.GetProperty("programState").GetString() == (where == "a" ? "RunningOnSource" : where == "b" ? "RunningOnDestination" : "Gone");
        if (!isThere || last.GetProperty("needsResolution").GetBoolean())
            throw new InvalidOperationException($"the history of {host.Name} says otherwise: {last}");
    }

    private async Task TidyAsync(TestProgram? program)
    {
        await lab.MendAsync();
        await lab.UndropAsync();
        foreach (var host in (LabHost[])[lab.A, lab.B])
        {
            // Not the server, which outlives its migrations
            var left = HostProcesses.Of(host, "counter").Concat(HostProcesses.Of(host, "criu"));
            if (host == lab.A)
                left = left.Concat(HostProcesses.Of(host, "phaul"));
            HostProcesses.ContinueAll(left);
            HostProcesses.KillAll(left);
            File.Delete(host.PathOf($"{StateDirectory}/filler"));
            foreach (var directory in (string[])[host.PathOf($"{StateDirectory}/images"), host.PathOf($"{StateDirectory}/migrations")])
            {
                if (Directory.Exists(directory))
                    Directory.Delete(directory, recursive: true);
            }
        }

        if (program is not null)
            File.Delete(program.Log);
    }
}
