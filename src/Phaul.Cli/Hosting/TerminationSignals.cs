// SIGINT, SIGTERM and SIGHUP of this process.

using System.Runtime.InteropServices;

namespace Phaul.Cli.Hosting;

/// <summary>Turns the first termination signal into a cancelled token; tells of further ones.</summary>
internal sealed class TerminationSignals : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Action<PosixSignal>? _onFurther;

    /// <summary>Begins to listen.</summary>
    /// <param name="onFurther">Called for every signal after the first, on a thread of the pool.</param>
    public TerminationSignals(Action<PosixSignal>? onFurther = null)
    {
        _onFurther = onFurther;
        foreach (var signal in (PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP])
            _registrations.Add(PosixSignalRegistration.Create(signal, OnSignal));
    }

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _first.Token;

    /// <summary>Whether one has come.</summary>
    public bool Received => _first.IsCancellationRequested;

    /// <inheritdoc/>
    public void Dispose()
    {
        _registrations.ForEach(registration => registration.Dispose());
        _first.Dispose();
    }

    private void OnSignal(PosixSignalContext context)
    {
        // Without this the process would end at once
        context.Cancel = true;
        if (_first.IsCancellationRequested)
            _onFurther?.Invoke(context.Signal);
        else
            _first.Cancel();
    }
}
