// Finds a real CRIU for the tests: that of a cached lab root, run on this machine by the root's own loader, or the one in PATH.
using Phaul.Criu;

namespace Phaul.Tests.Criu;

/// <summary>The real CRIU, 4 or later, or the reason why there is none.</summary>
public sealed class RealCriu : IAsyncLifetime
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-real-criu-");
    private string? _path;
    private string _reason = "not looked for";

    public async Task InitializeAsync()
    {
        if (Environment.UserName != "root")
        {
            _reason = "CRIU needs root.";
            return;
        }
        var found = "";
        foreach (var candidate in Candidates())
        {
            try
            {
                await using var client = new CriuClient(new CriuClientOptions { CriuPath = candidate });
                var version = await client.GetVersionAsync();
                await client.CheckAsync();
                if (version.IsAtLeast(4))
                {
                    _path = candidate;
                    return;
                }
                found += $" {candidate} is {version}.";
            }
            catch (CriuException exception)
            {
                found += $" {candidate}: {exception.Message}.";
            }
        }
        _reason = $"No CRIU 4 that works here was found.{found}";
    }

    public Task DisposeAsync()
    {
        _directory.Delete(recursive: true);
        return Task.CompletedTask;
    }

    /// <summary>Its path; skips the test if there is none.</summary>
    public string Require()
    {
        Skip.If(_path is null, _reason);
        return _path!;
    }

    private IEnumerable<string> Candidates()
    {
        var cache = new DirectoryInfo(Environment.GetEnvironmentVariable("PHAUL_LAB_CACHE") ?? "/var/cache/phaul-lab");
        var roots = cache.Exists ? cache.GetDirectories("root-*") : [];
        foreach (var root in roots.OrderByDescending(root => root.LastWriteTimeUtc).Select(root => root.FullName))
        {
            if (!File.Exists($"{root}/usr/sbin/criu") || Loader(root) is not { } loader) continue;
            var wrapper = Path.Combine(_directory.FullName, $"criu-{Path.GetFileName(root)}");
            var libraries = Directory.GetDirectories($"{root}/usr/lib", "*-linux-gnu*").Append($"{root}/usr/lib");
            File.WriteAllText(
                wrapper,
                $"#!/bin/sh\nexec {loader} --library-path {string.Join(':', libraries)} --argv0 criu {root}/usr/sbin/criu \"$@\"\n");
            File.SetUnixFileMode(wrapper, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            yield return wrapper;
        }
        yield return "criu";
    }

    private static string? Loader(string root) =>
        new[] { "usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1" }
            .Select(path => Path.Combine(root, path)).FirstOrDefault(File.Exists);
}
