// A CRIU that misbehaves to order: a shell script that speaks the RPC in prepared bytes.
using System.Diagnostics;
using System.Text;
using Google.Protobuf;
using Phaul.Criu.Rpc;

namespace Phaul.Tests.Criu;

/// <summary>Writes scripts that stand in for CRIU. Only for what the real one cannot be made to do.</summary>
internal sealed class FakeCriu : IDisposable
{
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("phaul-fake-criu-");
    private readonly StringBuilder _script = new("#!/bin/bash\necho start >>\"$(dirname \"$0\")/starts\"\n");

    private int _messages;

    public string Path => System.IO.Path.Combine(_directory.FullName, "criu");

    /// <summary>How often it was started.</summary>
    public int Starts => File.Exists(StartsFile) ? File.ReadAllLines(StartsFile).Length : 0;

    private string StartsFile => System.IO.Path.Combine(_directory.FullName, "starts");

    public static CriuResponse Version => new()
    {
        Type = CriuRequestKind.Version,
        Success = true,
        Version = new CriuVersionInfo { Major = 4, Minor = 2, Sublevel = 1 },
    };

    /// <summary>Waits for a message and keeps it in a file of that name.</summary>
    public FakeCriu Receive(string name = "request") => Do($"dd bs=1M count=1 <&3 >\"$(dirname \"$0\")/{name}\" 2>/dev/null");

    public FakeCriu Send(IMessage message) => SendBytes(message.ToByteArray());

    public FakeCriu SendBytes(byte[] bytes)
    {
        // From a file, because a shell's own printf would cut the message at every line feed in it.
        var name = $"message-{_messages++}";
        File.WriteAllBytes(System.IO.Path.Combine(_directory.FullName, name), bytes);
        return Do($"dd bs=1M count=1 if=\"$(dirname \"$0\")/{name}\" >&3 2>/dev/null");
    }

    public FakeCriu Do(string command)
    {
        _script.Append(command).Append('\n');
        return this;
    }

    /// <summary>Makes it executable.</summary>
    public FakeCriu Build()
    {
        // Written by a process of its own: one that another test has just forked would have our descriptor for writing, too, and a file
        // that somebody can write to cannot be executed
        var draft = Path + ".draft";
        File.WriteAllText(draft, _script.ToString());
        using var install = Process.Start("install", ["-m", "700", draft, Path]);
        install.WaitForExit();
        Assert.Equal(0, install.ExitCode);
        return this;
    }

    /// <summary>A message that it received.</summary>
    public CriuRequest Received(string name = "request") =>
        CriuRequest.Parser.ParseFrom(File.ReadAllBytes(System.IO.Path.Combine(_directory.FullName, name)));

    public void Dispose()
    {
        // Killed, it may leave a dd that is just about to make its file.
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                _directory.Delete(recursive: true);
                return;
            }
            catch (IOException) when (attempt < 100)
            {
                Thread.Sleep(10);
            }
        }
    }
}
