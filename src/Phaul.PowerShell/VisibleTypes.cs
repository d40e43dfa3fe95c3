// The types of the engine that scripts meet. PowerShell looks for a type by its name in its own load context only, where
// Phaul.Core is not; the cmdlets' assembly is there, and says where the type is. So `catch [Phaul.PhaulException]` and
// `-is [Phaul.PhaulMigrationResult]` work.

using System.Runtime.CompilerServices;
using Phaul;
using Phaul.Journal;

[assembly: TypeForwardedTo(typeof(ActiveMigration))]
[assembly: TypeForwardedTo(typeof(CgroupMode))]
[assembly: TypeForwardedTo(typeof(CheckResult))]
[assembly: TypeForwardedTo(typeof(CheckVerdict))]
[assembly: TypeForwardedTo(typeof(IterationDecision))]
[assembly: TypeForwardedTo(typeof(IterationKind))]
[assembly: TypeForwardedTo(typeof(CompressionMode))]
[assembly: TypeForwardedTo(typeof(MigrationMode))]
[assembly: TypeForwardedTo(typeof(MigrationResolution))]
[assembly: TypeForwardedTo(typeof(MigrationSide))]
[assembly: TypeForwardedTo(typeof(MigrationState))]
[assembly: TypeForwardedTo(typeof(MigrationStateChange))]
[assembly: TypeForwardedTo(typeof(MigrationSummary))]
[assembly: TypeForwardedTo(typeof(NetworkLock))]
[assembly: TypeForwardedTo(typeof(OperatorWord))]
[assembly: TypeForwardedTo(typeof(PhaulErrorId))]
[assembly: TypeForwardedTo(typeof(PhaulException))]
[assembly: TypeForwardedTo(typeof(PhaulIteration))]
[assembly: TypeForwardedTo(typeof(PhaulMigrationResult))]
[assembly: TypeForwardedTo(typeof(ProgramState))]
[assembly: TypeForwardedTo(typeof(ResolutionOutcome))]
[assembly: TypeForwardedTo(typeof(ServerState))]
