// A link with latency, between what is sent and what arrives: a state that lasts microseconds between two neighbours lasts
// long enough to be caught. (The kernels this runs on do not all have netem.)

namespace Phaul.Tests.Lab;

/// <summary>A relay in a host that passes every byte on, later.</summary>
public sealed class SlowLink : IAsyncDisposable
{
    public const int Port = 7249;

    private const string Script =
        """
        import asyncio, sys
        delay, host, port, listen = float(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        async def receive(reader, queue):
            loop = asyncio.get_running_loop()
            try:
                while data := await reader.read(1 << 18):
                    queue.put_nowait((loop.time() + delay, data))
            except OSError:
                pass
            queue.put_nowait((loop.time() + delay, b''))
        async def send(queue, writer):
            loop = asyncio.get_running_loop()
            try:
                while True:
                    due, data = await queue.get()
                    await asyncio.sleep(max(0, due - loop.time()))
                    if not data:
                        break
                    writer.write(data)
                    await writer.drain()
                writer.write_eof()
            except OSError:
                pass
        async def serve(reader, writer):
            try:
                there_reader, there_writer = await asyncio.open_connection(host, port)
            except OSError:
                writer.transport.abort()
                return
            there, back = asyncio.Queue(), asyncio.Queue()
            await asyncio.gather(receive(reader, there), send(there, there_writer), receive(there_reader, back), send(back, writer))
            writer.transport.abort()
            there_writer.transport.abort()
        async def main():
            server = await asyncio.start_server(serve, '', listen)
            print('ready', flush=True)
            await server.serve_forever()
        asyncio.run(main())
        """;

    private readonly RunningCommand _relay;

    private SlowLink(RunningCommand relay) => _relay = relay;

    /// <summary>Starts a relay.</summary>
    /// <param name="host">Where it runs.</param>
    /// <param name="destination">To whose phaul server.</param>
    /// <param name="delay">How much later everything arrives, each way.</param>
    public static async Task<SlowLink> StartAsync(LabHost host, LabHost destination, TimeSpan delay)
    {
        var relay = host.Start(
            "python3", "-c", Script, $"{delay.TotalSeconds}", destination.Address, $"{MigrationEndpoint.DefaultPort}", $"{Port}");
        if (await relay.NextLineAsync(TimeSpan.FromSeconds(30)) != "ready")
            throw new InvalidOperationException($"the relay does not start: {relay.ErrorText}");
        return new SlowLink(relay);
    }

    public ValueTask DisposeAsync() => _relay.DisposeAsync();
}
