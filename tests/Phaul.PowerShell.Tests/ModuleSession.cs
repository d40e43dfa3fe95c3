// A runspace with the module imported, as a user's session has it.

using System.Management.Automation.Runspaces;

namespace Phaul.PowerShell.Tests;

/// <summary>One session with directories of its own: nothing of the host's is read or written.</summary>
public sealed class ModuleSession : IDisposable
{
    private static readonly Lazy<string> Module = new(Assemble);

    private readonly Runspace _runspace;

    public ModuleSession()
    {
        Directory = System.IO.Directory.CreateTempSubdirectory("phaul-module-").FullName;
        var state = InitialSessionState.CreateDefault2();
        state.ImportPSModule([Module.Value]);
        _runspace = RunspaceFactory.CreateRunspace(state);
        _runspace.Open();
        Run("Get-Module Phaul").Single();
    }

    /// <summary>A directory for this session.</summary>
    public string Directory { get; }

    /// <summary>A command to be run.</summary>
    public System.Management.Automation.PowerShell Command(string script)
    {
        var shell = System.Management.Automation.PowerShell.Create(_runspace);
        shell.AddScript(script);
        return shell;
    }

    /// <summary>What a script emits; its errors, terminating or not, are thrown.</summary>
    public IReadOnlyList<PSObject> Run(string script)
    {
        using var shell = Command(script);
        var output = shell.Invoke();
        return shell.Streams.Error.Count == 0 ? output : throw new RuntimeException(shell.Streams.Error[0].ToString());
    }

    /// <summary>The one error of a script, terminating or not.</summary>
    public ErrorRecord Error(string script)
    {
        using var shell = Command(script);
        try
        {
            shell.Invoke();
        }
        catch (RuntimeException failure)
        {
            return failure.ErrorRecord;
        }

        return Assert.Single(shell.Streams.Error);
    }

    public void Dispose()
    {
        Run("Remove-Module Phaul");
        _runspace.Dispose();
        System.IO.Directory.Delete(Directory, recursive: true);
    }

    // The layout of out/Phaul without its help, out of what this build has made
    private static string Assemble()
    {
        string output = InstalledPowerShell.Metadata("ModuleOutput"), root = InstalledPowerShell.Metadata("RepositoryRoot");
        string module = Path.Combine(System.IO.Directory.CreateTempSubdirectory("phaul-assembled-").FullName, "Phaul");
        System.IO.Directory.CreateDirectory(Path.Combine(module, "lib"));
        IEnumerable<string> top = [
            Path.Combine(root, "Phaul.psd1"),
            .. System.IO.Directory.GetFiles(Path.Combine(root, "src/Phaul.PowerShell/Formats")),
            .. System.IO.Directory.GetFiles(output, "Phaul.PowerShell*.dll")];
        foreach (string file in top)
        {
            File.Copy(file, Path.Combine(module, Path.GetFileName(file)));
        }

        foreach (string library in (string[])["Phaul.Core.dll", "Google.Protobuf.dll"])
        {
            File.Copy(Path.Combine(output, library), Path.Combine(module, "lib", library));
        }

        AppDomain.CurrentDomain.ProcessExit += (_, _) => System.IO.Directory.Delete(Path.GetDirectoryName(module)!, recursive: true);
        return Path.Combine(module, "Phaul.psd1");
    }
}
