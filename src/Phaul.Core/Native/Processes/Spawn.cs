// posix_spawn with the attributes that a child of ours gets. It does not fork this process, whose memory may be large.
using System.Collections;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Phaul.Native;

internal static unsafe class Spawn
{
    // Children see their descriptors under numbers below this; the sources are first duplicated to numbers from here on,
    // so that putting one in place never overwrites another.
    private const int LowestSource = 64;

    // Larger than glibc's and musl's posix_spawnattr_t, posix_spawn_file_actions_t and sigset_t.
    private const int OpaqueSize = 1024;

    /// <summary>Starts a program and returns its pid.</summary>
    /// <exception cref="NativeException">It cannot be started.</exception>
    public static int Run(ProcessStart start, SafeHandle output, SafeHandle error)
    {
        var sources = new List<SafeFileHandle>();
        var actions = (nint)NativeMemory.AllocZeroed(OpaqueSize);
        var attributes = (nint)NativeMemory.AllocZeroed(OpaqueSize);
        var signals = (nint)NativeMemory.AllocZeroed(OpaqueSize);
        byte** arguments = null;
        byte** environment = null;
        try
        {
            Check(Libc.SpawnActionsInit(actions), "posix_spawn_file_actions_init");
            Check(Libc.SpawnAttributesInit(attributes), "posix_spawnattr_init");
            Check(Libc.SpawnActionsOpen(actions, 0, "/dev/null", Libc.OpenReadOnly, 0), "posix_spawn_file_actions_addopen");
            Place(actions, sources, 1, output);
            Place(actions, sources, 2, error);
            var next = 3;
            foreach (var (number, handle) in start.Descriptors.OrderBy(pair => pair.Key))
            {
                if (number is < 3 or >= LowestSource)
                    throw new ArgumentOutOfRangeException(nameof(start), number, "Descriptors are 3 to 63.");
                Place(actions, sources, number, handle);
                next = number + 1;
            }
            // Everything that .NET opens is closed on exec, but this process may itself have inherited what is not.
            if (Libc.HasSpawnCloseFrom) Check(Libc.SpawnActionsCloseFrom(actions, next), "posix_spawn_file_actions_addclosefrom_np");

            // .NET ignores SIGPIPE and blocks none; the child starts with everything at its default. The session of its own
            // keeps a Ctrl+C on our terminal from it: it must be told to end, not torn away.
            Libc.SignalSetFill(signals);
            Check(Libc.SpawnAttributesSignalDefaults(attributes, signals), "posix_spawnattr_setsigdefault");
            Libc.SignalSetEmpty(signals);
            Check(Libc.SpawnAttributesSignalMask(attributes, signals), "posix_spawnattr_setsigmask");
            const short flags = Libc.SpawnNewSession | Libc.SpawnSetSignalDefaults | Libc.SpawnSetSignalMask;
            Check(Libc.SpawnAttributesFlags(attributes, flags), "posix_spawnattr_setflags");

            arguments = Strings(start.Arguments.Prepend(start.File));
            environment = Strings(Environment(start).Select(pair => $"{pair.Key}={pair.Value}"));
            int pid;
            Check(Libc.SpawnOnPath(&pid, start.File, actions, attributes, arguments, environment), $"posix_spawnp({start.File})");
            return pid;
        }
        finally
        {
            Free(arguments);
            Free(environment);
            _ = Libc.SpawnActionsDestroy(actions);
            _ = Libc.SpawnAttributesDestroy(attributes);
            NativeMemory.Free((void*)actions);
            NativeMemory.Free((void*)attributes);
            NativeMemory.Free((void*)signals);
            foreach (var source in sources) source.Dispose();
        }
    }

    private static void Place(nint actions, List<SafeFileHandle> sources, int number, SafeHandle handle)
    {
        var source = DescriptorDuplicate.Of(handle, LowestSource);
        sources.Add(source);
        Check(Libc.SpawnActionsDuplicate(actions, (int)source.DangerousGetHandle(), number), "posix_spawn_file_actions_adddup2");
    }

    private static IEnumerable<KeyValuePair<string, string>> Environment(ProcessStart start) =>
        start.Environment ?? System.Environment.GetEnvironmentVariables().Cast<DictionaryEntry>()
            .Select(entry => KeyValuePair.Create((string)entry.Key, (string)entry.Value!));

    private static byte** Strings(IEnumerable<string> values)
    {
        var list = values.ToList();
        var array = (byte**)NativeMemory.AllocZeroed((nuint)(list.Count + 1), (nuint)sizeof(byte*));
        for (var i = 0; i < list.Count; i++)
        {
            var length = Encoding.UTF8.GetByteCount(list[i]);
            array[i] = (byte*)NativeMemory.AllocZeroed((nuint)length + 1);
            Encoding.UTF8.GetBytes(list[i], new Span<byte>(array[i], length));
        }
        return array;
    }

    private static void Free(byte** strings)
    {
        if (strings is null) return;
        for (var at = strings; *at is not null; at++) NativeMemory.Free(*at);
        NativeMemory.Free(strings);
    }

    private static void Check(int error, string call)
    {
        if (error != 0) throw new NativeException(call, error);
    }
}
