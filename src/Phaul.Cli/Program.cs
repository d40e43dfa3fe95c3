// The entry of `phaul`.

using Phaul.Cli.Commands;
using Phaul.Cli.Output;

return await PhaulCommand.RunAsync(args, Streams.OfThisProcess());
