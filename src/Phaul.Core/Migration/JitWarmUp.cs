// Compiles, before anything is frozen, the code that would otherwise be compiled for the first time while a program waits.

using System.Reflection;
using System.Runtime.CompilerServices;
using Phaul.Journal;

namespace Phaul;

/// <summary>
/// What a compiler ahead of time leaves to the just-in-time compiler is the generic machinery around asynchronous methods: a
/// dozen small methods for each of them, a thousand in a migration's frozen part, a tenth of a second in all.
/// </summary>
internal static class JitWarmUp
{
    private const BindingFlags Any =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly Lazy<Task> Preparation = new(PrepareAsync);

    /// <summary>Begins at the first call; the same task for everybody. It never fails.</summary>
    public static Task Completion => Preparation.Value;

    private static async Task PrepareAsync()
    {
        await Task.Factory.StartNew(Prepare, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default).ConfigureAwait(false);
        await PagePathRehearsal.RunAsync().ConfigureAwait(false);
    }

    private static void Prepare()
    {
        JournalLine.WarmUp();
        foreach (var machine in typeof(JitWarmUp).Assembly.GetTypes())
        {
            if (!machine.IsValueType || machine.ContainsGenericParameters || !typeof(IAsyncStateMachine).IsAssignableFrom(machine))
                continue;
            try
            {
                PrepareMachine(machine);
            }
            catch (Exception exception) when (exception is ArgumentException or InvalidOperationException or NotSupportedException
                or MissingMemberException or TypeLoadException or NullReferenceException)
            {
                // Another runtime, other internals: it is compiled when it is needed, as without this.
            }
        }
    }

    private static void PrepareMachine(Type machine)
    {
        var builder = machine.GetField("<>t__builder", Any)!.FieldType;
        if (builder.Name.StartsWith("AsyncIterator", StringComparison.Ordinal))
            return;
        Compile(machine.GetMethod("MoveNext", Any)!);
        Compile(builder.GetMethod("Start", Any)!.MakeGenericMethod(machine));
        Compile(Core.GetMethod("Start", Any)!.MakeGenericMethod(machine));
        // The value task's builders pass on to the task's
        var result = builder.IsGenericType ? builder.GetGenericArguments()[0] : VoidResult;
        var inner = typeof(AsyncTaskMethodBuilder<>).MakeGenericType(result);
        foreach (var awaiter in machine.GetFields(Any).Where(field => field.Name.StartsWith("<>u__", StringComparison.Ordinal)).Select(field => field.FieldType))
        {
            foreach (var method in builder.GetMethods(Any).Concat(inner.GetMethods(Any)).Where(method => method.Name == "AwaitUnsafeOnCompleted"))
                Compile(method.MakeGenericMethod(method.GetGenericArguments().Length == 2 ? [awaiter, machine] : [awaiter]));
        }

        Compile(inner.GetMethod("GetStateMachineBox", Any)!.MakeGenericMethod(machine));
        var box = inner.GetNestedType("AsyncStateMachineBox`1", Any)!.MakeGenericType(result, machine);
        foreach (var method in box.GetMethods(Any).Cast<MethodBase>().Concat(box.GetConstructors(Any)))
        {
            if (!method.ContainsGenericParameters && !method.IsAbstract)
                Compile(method);
        }
    }

    private static readonly Type Core = typeof(AsyncTaskMethodBuilder).Assembly.GetType("System.Runtime.CompilerServices.AsyncMethodBuilderCore")!;

    private static readonly Type VoidResult = typeof(Task).Assembly.GetType("System.Threading.Tasks.VoidTaskResult")!;

    private static void Compile(MethodBase method)
    {
        var arguments = (method.DeclaringType?.GetGenericArguments() ?? Type.EmptyTypes)
            .Concat(method.IsGenericMethod ? method.GetGenericArguments() : Type.EmptyTypes)
            .Select(type => type.TypeHandle).ToArray();
        if (arguments.Length > 0)
            RuntimeHelpers.PrepareMethod(method.MethodHandle, arguments);
        else
            RuntimeHelpers.PrepareMethod(method.MethodHandle);
    }
}
