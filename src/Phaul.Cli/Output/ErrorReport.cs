// An error as an operator reads it, always in the same shape and order.

namespace Phaul.Cli.Output;

/// <summary>Writes errors.</summary>
internal static class ErrorReport
{
    /// <summary>What failed, its id, on which host, at which step, where the program is, CRIU's last lines, what to do next.</summary>
    public static string Of(PhaulException error)
    {
        var text = new StringWriter { NewLine = "\n" };
        text.WriteLine($"phaul: {error.Message}");
        text.WriteLine($"  error    {error.ErrorId}");
        if (error.Host is not null)
            text.WriteLine($"  host     {error.Host}");
        if (error.Step is not null)
            text.WriteLine($"  step     {error.Step}");
        text.WriteLine($"  program  {Describe(error)}");
        for (var line = 0; line < error.CriuLog.Count; line++)
            text.WriteLine($"  {(line == 0 ? "criu" : "    ")}     {error.CriuLog[line]}");
        if (error.Result?.ImagesDirectory is { } images)
            text.WriteLine($"  images   {images}");
        if (error.RecommendedAction is not null)
            text.WriteLine($"  next     {error.RecommendedAction}");
        return text.ToString();
    }

    private static string Describe(PhaulException error) => error switch
    {
        { ErrorId: PhaulErrorId.InvalidRequest } => "was not touched",
        { ErrorId: PhaulErrorId.ProcessNotFound, Result: null } => "is not on this host; phaul history tells what was moved from here",
        { WasNeverStopped: true } => "runs on the source, and was never stopped",
        _ => Describe(error.ProgramState),
    };

    /// <summary>Where the program is, in a few words.</summary>
    public static string Describe(ProgramState state) => state switch
    {
        ProgramState.RunningOnSource => "runs on the source; nothing was lost",
        ProgramState.RunningOnDestination => "runs on the destination",
        ProgramState.FrozenOnSource => "is frozen on the source",
        ProgramState.HeldOnDestination => "is gone from the source and held, ready to run, on the destination",
        ProgramState.Unknown => "cannot be known from here",
        ProgramState.Gone => "is gone: there is no such process on either host",
        _ => state.ToString(),
    };
}
