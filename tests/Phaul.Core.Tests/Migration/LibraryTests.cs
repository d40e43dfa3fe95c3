// The library as its users see it: both ends in one process, over a socket pair, with an IPhaulLocal of their own (the sample's).

using MoveInPlace;
using Phaul.Criu;
using Phaul.Native;
using Phaul.Tests.Criu;

namespace Phaul.Tests.Migration;

[Collection(nameof(RealCriuCollection))]
public sealed class LibraryTests(RealCriu real) : IDisposable
{
    private static readonly TimeSpan Failsafe = TimeSpan.FromSeconds(60);

    private readonly DirectoryInfo _work = Directory.CreateTempSubdirectory("phaul-library-");

    public void Dispose() => _work.Delete(recursive: true);

    [SkippableFact]
    public async Task A_program_moves_between_a_client_and_a_server_in_one_process()
    {
        var criu = real.Require();
        var (source, destination) = SocketPair.CreateStream();
        using var sourceEnd = source;
        using var destinationEnd = destination;
        await using var program = await CountingProgram.StartAsync();
        await using var server = new PhaulServer(Config(criu, destination, "destination"));
        var iterations = new Iterations();

        var client = new PhaulClient(new InPlace(server), server, Config(criu, source, "source") with { Pid = program.Pid, TrackMemory = false });
        await client.MigrateAsync(iterations).WaitAsync(Failsafe);

        Assert.True(program.Child.HasExited);
        await program.SeeItCountAsync();
        Assert.Equal(Path.Combine(_work.FullName, "destination", "0"), server.LastImagesDirectory);
        var only = Assert.Single(iterations);
        Assert.Equal((1, IterationKind.FinalDump, IterationDecision.Final), (only.Index, only.Kind, only.Decision));
        Assert.True(only.PagesWritten > 0 && only.FrozenTime > TimeSpan.Zero, only.ToString());
    }

    [SkippableFact]
    public async Task An_engine_that_fails_while_the_program_is_frozen_has_it_resumed()
    {
        var criu = real.Require();
        var (source, destination) = SocketPair.CreateStream();
        using var sourceEnd = source;
        using var destinationEnd = destination;
        await using var program = await CountingProgram.StartAsync();
        await using var server = new PhaulServer(Config(criu, destination, "destination"));

        // A file is in the way of the images
        var client = new PhaulClient(
            new InPlace(server), new Obstructing(server), Config(criu, source, "source") with { Pid = program.Pid, TrackMemory = false });
        await Assert.ThrowsAsync<IOException>(() => client.MigrateAsync().WaitAsync(Failsafe));

        Assert.False(program.Child.HasExited);
        await program.SeeItCountAsync();
    }

    private PhaulConfig Config(string criu, System.Net.Sockets.Socket socket, string name) =>
        new() { MemorySocket = socket, CriuPath = criu, WorkDirectory = _work.CreateSubdirectory(name).FullName };

    private sealed class Iterations : List<PhaulIteration>, IProgress<PhaulIteration>
    {
        public void Report(PhaulIteration value) => Add(value);
    }

    private sealed class Obstructing(PhaulServer server) : IPhaulRemote
    {
        public async Task StartIterationAsync(CancellationToken cancellationToken = default)
        {
            await server.StartIterationAsync(cancellationToken);
            File.WriteAllText(Path.Combine(server.LastImagesDirectory, "inventory.img"), "");
        }

        public Task StopIterationAsync(CancellationToken cancellationToken = default) => server.StopIterationAsync(cancellationToken);
    }
}
