// dotnet-counter --log PATH: counts, and keeps replacing objects on its heap, whose content follows from when they were made.
// A timer and a task on the pool must go on as well. On SIGUSR1 it checks everything.

using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

const int blocks = 256, blockLength = 16 << 10;

if (args is not ["--log", var path])
    return 2;
// .NET's own FileMode.Append only seeks; a file that is truly appended to may differ in size on both hosts
const int writeOnlyCreateAppend = 0x1 | 0x40 | 0x400;
using var log = new FileStream(new SafeFileHandle(Open(path, writeOnlyCreateAppend, 0x1A4), ownsHandle: true), FileAccess.Write, bufferSize: 0);
var heap = new byte[blocks][];
var made = new long[blocks];
long step = 0, ticks = 0, rounds = 0, wanted = 0;
using var timer = new Timer(_ => Interlocked.Increment(ref ticks), null, 5, 5);
using var onSignal = PosixSignalRegistration.Create((PosixSignal)10, context =>
{
    context.Cancel = true;
    Interlocked.Exchange(ref wanted, 1);
});
_ = Task.Run(async () =>
{
    while (true)
    {
        await Task.Delay(5);
        Interlocked.Increment(ref rounds);
    }
});

for (var block = 0; block < blocks; block++)
    Replace(block);
while (true)
{
    step++;
    var ok = Holds((int)(step % blocks));
    Replace((int)(step % blocks));
    Write($"{step} {Stopwatch.GetTimestamp() * (1_000_000_000 / Stopwatch.Frequency)} {(DateTime.UtcNow - DateTime.UnixEpoch).Ticks * 100} {Word(ok)}");
    if (Interlocked.Exchange(ref wanted, 0) == 1)
    {
        var (ticksBefore, roundsBefore) = (Interlocked.Read(ref ticks), Interlocked.Read(ref rounds));
        GC.Collect();
        Thread.Sleep(200);
        var all = Enumerable.Range(0, blocks).All(Holds);
        Write($"verify {Word(all && Interlocked.Read(ref ticks) > ticksBefore && Interlocked.Read(ref rounds) > roundsBefore)} {step}");
    }

    Thread.Sleep(5);
}

void Replace(int block)
{
    made[block] = step;
    heap[block] = new byte[blockLength];
    new Random(HashCode(block)).NextBytes(heap[block]);
}

bool Holds(int block)
{
    var expected = new byte[blockLength];
    new Random(HashCode(block)).NextBytes(expected);
    return heap[block].AsSpan().SequenceEqual(expected);
}

int HashCode(int block) => (int)(made[block] * blocks + block);

void Write(string line) => log.Write(System.Text.Encoding.ASCII.GetBytes(line + "\n"));

static string Word(bool ok) => ok ? "ok" : "FAILED";

[DllImport("libc", EntryPoint = "open", SetLastError = true)]
static extern nint Open([MarshalAs(UnmanagedType.LPUTF8Str)] string path, int flags, int mode);
