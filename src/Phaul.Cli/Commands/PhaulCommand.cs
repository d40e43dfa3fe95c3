// The root of the command line: its commands, its help, and the one place where errors become exit codes.

using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Phaul.Cli.Output;

namespace Phaul.Cli.Commands;

/// <summary>`phaul`.</summary>
internal static class PhaulCommand
{
    /// <summary>Runs a command line.</summary>
    /// <returns>The exit code, one of <see cref="ExitCode"/>.</returns>
    public static async Task<int> RunAsync(string[] args, Streams streams)
    {
        var parsed = Create(streams).Parse(args);
        // Signals are each command's own matter: what ends one rolls back another
        var configuration = new InvocationConfiguration
        {
            Output = streams.Output,
            Error = streams.Error,
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = null,
        };
        if (parsed.Errors.Count > 0)
        {
            foreach (var error in parsed.Errors)
                streams.Error.WriteLine($"phaul: {error.Message}");
            var command = string.Join(' ', parsed.CommandResult.Command is RootCommand ? ["phaul"] : new[] { "phaul", parsed.CommandResult.Command.Name });
            streams.Error.WriteLine($"See `{command} --help`.");
            return (int)ExitCode.BadUsage;
        }

        try
        {
            return await parsed.InvokeAsync(configuration);
        }
        catch (Exception e)
        {
            var error = e as PhaulException ?? AsInternalError(e);
            streams.Error.Write(ErrorReport.Of(error));
            if (error.ErrorId == PhaulErrorId.InternalError)
                streams.Error.WriteLine(e.ToString());
            return (int)ExitCodes.For(error);
        }
    }

    /// <summary>What escaped all the engine's own handling.</summary>
    public static PhaulException AsInternalError(Exception exception) =>
        new(PhaulErrorId.InternalError, exception.Message, exception)
        {
            ProgramState = ProgramState.Unknown,
            RecommendedAction = "look on both hosts where the program runs, and report this with the lines below",
        };

    private static RootCommand Create(Streams streams)
    {
        var root = new RootCommand("Moves a running process tree to another host with CRIU.")
        {
            ServeCommand.Create(streams),
            MigrateCommand.Create(streams),
            CheckCommand.Create(streams),
            ResolveCommand.Create(streams),
            HistoryCommand.Create(streams),
            NewCertificateCommand.Create(streams),
        };
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExitCodes((HelpAction)help.Action!);
        return root;
    }

    private sealed class HelpWithExitCodes(HelpAction usual) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            var code = usual.Invoke(parseResult);
            var output = parseResult.InvocationConfiguration.Output;
            output.WriteLine("Exit codes:");
            foreach (var (exitCode, meaning) in ExitCodes.Meanings)
                output.WriteLine($"  {(int)exitCode,3}  {meaning}");
            return code;
        }
    }
}
