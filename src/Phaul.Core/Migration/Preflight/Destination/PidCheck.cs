// Whether every pid that the tree needs is free here.

using System.Globalization;
using Phaul.Procfs;
using Phaul.Wire;

namespace Phaul.Preflight;

internal static class PidCheck
{
    /// <summary>Looks for tasks, process groups and sessions that hold a pid of the tree.</summary>
    /// <param name="survey">The tree.</param>
    /// <param name="options">What CRIU will be told.</param>
    /// <param name="proc">The procfs of the pid namespace in which CRIU will restore.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static IEnumerable<Finding> Run(
        TreeSurvey survey, ProcessOptions options, ProcFileSystem proc, CancellationToken cancellationToken)
    {
        if (survey.OwnNamespaces.Contains("pid"))
        {
            yield return new Finding(CheckVerdict.Skipped, "The tree brings a pid namespace of its own.");
            yield break;
        }

        var wanted = survey.Members.SelectMany(member => member.ThreadIds.Append(member.Pid)).ToHashSet();
        if (!options.ShellJob)
        {
            // Groups and sessions whose leader has ended: CRIU makes a task of that pid to found them anew. (Those of a
            // shell job are replaced by CRIU's own.)
            wanted.UnionWith(survey.Members.SelectMany(member => new[] { member.ProcessGroupId, member.SessionId }).Where(id => id > 0));
        }

        const string remedy =
            "End that process, choose another destination, or give this server a pid namespace of its own (unshare --pid).";
        if (int.TryParse(proc.ReadText("sys/kernel/pid_max"), NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out int limit)
            && wanted.Count > 0 && wanted.Max() >= limit)
        {
            yield return new Finding(
                CheckVerdict.Failed, $"The tree has the pid {wanted.Max()}; pids end at {limit - 1} here.",
                $"sysctl kernel.pid_max={wanted.Max() + 1} (or more) on the destination.");
        }

        var taken = new HashSet<int>();
        foreach (int id in wanted.Order())
        {
            cancellationToken.ThrowIfCancellationRequested();
            // A thread has no entry in the listing of /proc, but can be opened there.
            if (ProcStatus.Read(proc, id.ToString(CultureInfo.InvariantCulture)) is not { } occupant) continue;
            taken.Add(id);
            string who = occupant.ThreadGroupId == id || occupant.ThreadGroupId == 0
                ? $"a process ({occupant.Name})"
                : $"a thread of process {occupant.ThreadGroupId} ({occupant.Name})";
            yield return new Finding(CheckVerdict.Failed, $"The pid {id} is in use here: {who}.", remedy);
        }

        foreach (int pid in proc.ReadNumbers(""))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (ProcStat.Read(proc, pid) is not { } stat) continue;
            if (wanted.Contains(stat.SessionId) && taken.Add(stat.SessionId))
            {
                yield return new Finding(
                    CheckVerdict.Failed, $"The pid {stat.SessionId} is in use here: the session of process {pid} ({stat.Command}).",
                    remedy);
            }

            if (wanted.Contains(stat.ProcessGroupId) && taken.Add(stat.ProcessGroupId))
            {
                yield return new Finding(
                    CheckVerdict.Failed,
                    $"The pid {stat.ProcessGroupId} is in use here: the process group of process {pid} ({stat.Command}).", remedy);
            }
        }
    }
}
