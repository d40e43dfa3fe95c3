// move-in-place PID: both ends of a migration in one process. The program's memory is copied in iterations while it runs; then
// it is dumped, dies, and is restored on the same machine, with the same pid.

using MoveInPlace;
using Phaul;
using Phaul.Native;

if (args is not [var text] || !int.TryParse(text, out var pid))
{
    Console.Error.WriteLine("usage: move-in-place PID");
    return 2;
}

using var stop = new CancellationTokenSource();
Console.CancelKeyPress += (_, pressed) =>
{
    pressed.Cancel = true;
    stop.Cancel();
};

var work = Directory.CreateTempSubdirectory("move-in-place-");
var (sourceEnd, destinationEnd) = SocketPair.CreateStream();
using (sourceEnd)
using (destinationEnd)
{
    try
    {
        await using var server = new PhaulServer(new PhaulConfig
        {
            MemorySocket = destinationEnd,
            WorkDirectory = work.CreateSubdirectory("destination").FullName,
        });
        var client = new PhaulClient(
            new InPlace(server),
            server, // it is an IPhaulRemote; between two hosts, this calls the server on the other one
            new PhaulConfig { Pid = pid, MemorySocket = sourceEnd, WorkDirectory = work.CreateSubdirectory("source").FullName });
        await client.MigrateAsync(new Printed(), stop.Token);
        Console.WriteLine($"{pid} runs again");
        work.Delete(recursive: true);
        return 0;
    }
    catch (Exception exception) when (exception is Phaul.Criu.CriuException or PhaulException or OperationCanceledException)
    {
        Console.Error.WriteLine($"move-in-place: {exception.Message}; images and logs are in {work}");
        return 1;
    }
}

internal sealed class Printed : IProgress<PhaulIteration>
{
    public void Report(PhaulIteration iteration) => Console.WriteLine(
        $"{iteration.Index} {iteration.Kind}: {iteration.PagesWritten} pages, frozen {iteration.FrozenTime.TotalMilliseconds:0.0} ms: {iteration.Reason}");
}
