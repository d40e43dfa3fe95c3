// What every command must know of the host it runs on: which criu, and which directories.

using System.CommandLine;

namespace Phaul.Cli.Arguments;

/// <summary>--criu, --work-directory, --state-directory.</summary>
internal sealed class HostArguments
{
    public Option<string> Criu { get; } = new("--criu")
    {
        Description = "The criu binary: a path, or a name looked up in PATH",
        HelpName = "PATH",
        DefaultValueFactory = _ => "criu",
    };

    public Option<string?> WorkDirectory { get; } = new("--work-directory")
    {
        Description = "Where images and logs are put [default: images in the state directory]",
        HelpName = "DIR",
    };

    public Option<string?> StateDirectory { get; } = new("--state-directory")
    {
        Description = "Journal and history [default: /var/lib/phaul for root; PHAUL_STATE_DIRECTORY overrides it]",
        HelpName = "DIR",
    };

    /// <summary>Adds the options to a command.</summary>
    public void AddTo(Command command)
    {
        command.Add(Criu);
        command.Add(WorkDirectory);
        command.Add(StateDirectory);
    }
}
