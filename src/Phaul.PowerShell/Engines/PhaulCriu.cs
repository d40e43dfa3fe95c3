// CRIU, as a script plays with it: calls that return when they are done, and script blocks in place of notifications.

using System.Management.Automation;
using System.Threading.Channels;
using Phaul.Criu;
using Phaul.PowerShell.Engines;

namespace Phaul.PowerShell;

/// <summary>The source's CRIU in the hands of a script: the first argument of the script block of -DumpCopyRestore.</summary>
public sealed class PhaulCriu
{
    private readonly PhaulConfig _config;
    private readonly string _lastImagesPath;
    private readonly CancellationToken _cancellationToken;
    private readonly Channel<Action> _forScript = Channel.CreateUnbounded<Action>();

    internal PhaulCriu(CriuClient client, PhaulConfig config, string lastImagesPath, CancellationToken cancellationToken)
    {
        Client = client;
        _config = config;
        _lastImagesPath = lastImagesPath;
        _cancellationToken = cancellationToken;
    }

    /// <summary>The engine's own object, for what a script cannot do without it.</summary>
    public CriuClient Client { get; }

    /// <summary>
    /// Freezes and dumps the program; its memory goes to the destination. While it is frozen <paramref name="whileFrozen"/> is run with
    /// the directory of the other images as its argument. When that has ended without an error, CRIU kills the program here; any error
    /// in it, also a native command that fails, has the program run on.
    /// </summary>
    /// <returns>What <paramref name="whileFrozen"/> wrote.</returns>
    /// <exception cref="CriuException">CRIU failed.</exception>
    /// <exception cref="OperationCanceledException">The migration was called off; the program runs on.</exception>
    public PSObject[] Dump(ScriptBlock whileFrozen)
    {
        ArgumentNullException.ThrowIfNull(whileFrozen);
        PSObject[] output = [];
        Task dump = Task.Run(() => FinalDump.RunAsync(
            Client, _config, _lastImagesPath,
            (images, token) => InScriptAsync(() => output = [.. ScriptErrors.Stop(whileFrozen, images)], token), _cancellationToken));
        dump.ContinueWith(
            _ => _forScript.Writer.TryWrite(static () => { }), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        // This thread is the one that may run scripts: CRIU's notification is answered from here
        while (!dump.IsCompleted)
        {
            _forScript.Reader.ReadAsync(CancellationToken.None).AsTask().GetAwaiter().GetResult().Invoke();
        }

        dump.GetAwaiter().GetResult();
        return output;
    }

    private async Task InScriptAsync(Action work, CancellationToken cancellationToken)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        _forScript.Writer.TryWrite(() =>
        {
            try
            {
                cancellationToken.ThrowIfCancellationRequested();
                work();
                done.TrySetResult();
            }
            catch (Exception failure)
            {
                done.TrySetException(failure);
            }
        });
        // Once it has begun it is waited for: it may be restoring the program, and what it says is what happens
        await done.Task.ConfigureAwait(false);
    }
}
