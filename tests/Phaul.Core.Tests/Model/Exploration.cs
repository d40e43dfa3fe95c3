// Every state that can be reached, each looked at once.

namespace Phaul.Tests.Model;

/// <summary>The whole of what a model can do, and the first thing that is wrong with it, with the way to it.</summary>
public sealed class Exploration
{
    private readonly Dictionary<HandOverState, (HandOverState From, string Action)> _reached = new() { [HandOverState.Start] = default };
    private readonly Dictionary<HandOverState, List<HandOverState>> _cameFrom = [];
    private readonly HashSet<(MigrationSide, MigrationState, MigrationState)> _changes = [];

    public int States => _reached.Count;

    public int Transitions { get; private set; }

    public int Settled => _reached.Keys.Count(state => state.IsSettled);

    /// <summary>What is wrong; null if nothing is.</summary>
    public string? Violation { get; private set; }

    /// <summary>Every change of a journalled state.</summary>
    public IReadOnlyCollection<(MigrationSide Side, MigrationState From, MigrationState To)> Changes => _changes;

    public static Exploration Of(HandOverModel model)
    {
        var exploration = new Exploration();
        exploration.Explore(model);
        exploration.Violation ??= exploration.NeverSettled();
        return exploration;
    }

    private void Explore(HandOverModel model)
    {
        var open = new Queue<HandOverState>([HandOverState.Start]);
        while (open.TryDequeue(out var state))
        {
            foreach (var (action, next) in model.Next(state))
            {
                if (next == state)
                    continue;
                Transitions++;
                if (_reached.TryAdd(next, (state, action)))
                    open.Enqueue(next);
                // Recovery is what happens when no more faults do
                if (next.Faults == state.Faults)
                    (_cameFrom.TryGetValue(next, out var from) ? from : _cameFrom[next] = []).Add(state);
                var wrong = Change(MigrationSide.Source, state.SourceJournal, next.SourceJournal)
                    ?? Change(MigrationSide.Destination, state.DestinationJournal, next.DestinationJournal) ?? Wrong(next);
                Violation ??= wrong is null ? null : $"{wrong}:\n{WayTo(next)}";
            }
        }
    }

    private string? Change(MigrationSide side, MigrationState from, MigrationState to)
    {
        if (from == to)
            return null;
        _changes.Add((side, from, to));
        return MigrationTransitions.IsAllowed(side, from, to) ? null : $"the {side} cannot go from {from} to {to}";
    }

    private static string? Wrong(HandOverState state) => state switch
    {
        { Executing: > 1 } => "the program runs twice",
        { Freed: true, HasEnded: true } or { Freed: true, Copy: Copy.Running } => "the program runs twice, one after the other",
        { Copy: Copy.Running, HasEnded: true } => "a copy that had ended was started again",
        { Program: Program.Dead, DestinationJournal: MigrationState.Discarded } => "the program is lost: the only copy was discarded",
        { Program: Program.Dead, DestinationJournal: MigrationState.Running, Copy: not Copy.Running, HasEnded: false } =>
            "the program is lost: it is said to run and has never run",
        { IsSettled: true, Executing: 0, HasEnded: false } => "the program is lost: both sides have settled, and it runs nowhere",
        _ => null,
    };

    /// <summary>From wherever faults have led, without further faults, both sides come to an end with one program.</summary>
    private string? NeverSettled()
    {
        var good = new HashSet<HandOverState>(_reached.Keys.Where(state => state.IsSettled && (state.Executing == 1 || state.HasEnded)));
        var open = new Queue<HandOverState>(good);
        while (open.TryDequeue(out var state))
        {
            foreach (var from in _cameFrom.GetValueOrDefault(state) ?? [])
            {
                if (good.Add(from))
                    open.Enqueue(from);
            }
        }

        var stuck = _reached.Keys.FirstOrDefault(state => !good.Contains(state));
        return stuck == default ? null : $"never settled, so lost:\n{WayTo(stuck)}";
    }

    private string WayTo(HandOverState state)
    {
        var way = new Stack<string>();
        for (var at = state; at != HandOverState.Start; at = _reached[at].From)
            way.Push(_reached[at].Action);
        return string.Join("\n", way.Select((action, index) => $"  {index + 1}. {action}")) + $"\n  {state}";
    }
}
