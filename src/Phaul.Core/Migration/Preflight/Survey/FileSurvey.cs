// The files that a tree needs to find again: which, how large, and, where they should not change, their hash.

using System.Buffers;
using System.Diagnostics;
using System.Security.Cryptography;
using Google.Protobuf;
using Phaul.Native;
using Phaul.Procfs;
using Phaul.Wire;
using Kind = Phaul.Wire.SurveyedFile.Types.Kind;

namespace Phaul.Preflight;

/// <summary>Collects the files of a tree.</summary>
/// <param name="tree">The tree.</param>
/// <param name="proc">The procfs.</param>
internal sealed class FileSurvey(TreeInspection tree, ProcFileSystem proc)
{
    /// <summary>Larger files are compared by size only.</summary>
    public const long MaxHashedFile = 64 << 20;

    /// <summary>No more than so many bytes are hashed, in all.</summary>
    public const long MaxHashedTotal = 512 << 20;

    /// <summary>More files are not listed.</summary>
    public const int MaxFiles = 65_536;

    private static readonly TimeSpan HashingLimit = TimeSpan.FromSeconds(8);

    private readonly SortedDictionary<string, Entry> _files = new(StringComparer.Ordinal);
    private readonly List<string> _notes = [];

    /// <summary>What could not be looked at.</summary>
    public IReadOnlyList<string> Notes => _notes;

    /// <summary>Lists the files, in the order of their paths.</summary>
    public IReadOnlyList<SurveyedFile> Collect(CancellationToken cancellationToken)
    {
        foreach (var process in tree.Processes)
        {
            cancellationToken.ThrowIfCancellationRequested();
            foreach (var open in process.Descriptors) AddDescriptor(open);
            foreach (var mapping in process.Mappings) AddMapping(process, mapping);
            foreach (string place in process.Places)
            {
                if (FileStatus.Of(PathHere(place)) is { } status && place.StartsWith('/') && !IsKernels(process, status))
                    Add(place, status, status.IsDirectory ? Kind.Directory : Kind.Executable, isLog: false, isLeased: false);
            }
        }

        return Survey(cancellationToken);
    }

    private void AddDescriptor(OpenDescriptor open)
    {
        if (!open.HasPath || open.IsMarkedDeleted || open.Mount?.IsKernelInterface == true || open.IsTerminal) return;
        if (open.Status is not { LinkCount: > 0 } status) return;
        var kind = status switch
        {
            { IsDirectory: true } => Kind.Directory,
            { IsRegular: false } => Kind.Other,
            _ when open.Info.IsWritable => Kind.Writable,
            _ => Kind.ReadOnly,
        };
        // A lease is broken by whoever opens the file against it: the program would notice.
        Add(open.Link, status, kind, open.Info.IsAppendOnly, open.Info.Locks.Any(held => held.Kind is "LEASE" or "DELEG"));
    }

    private void AddMapping(ProcessInspection process, ProcMapping mapping)
    {
        if (!mapping.IsNamedFile) return;
        if (_files.TryGetValue(mapping.Path, out var known) && known.Kind is Kind.Writable or Kind.Executable) return;
        if (FileStatus.Of(PathHere(mapping.Path)) is not { } status || status.Inode != mapping.Inode || IsKernels(process, status)) return;
        var kind = status switch
        {
            { IsRegular: false } => Kind.Other,
            _ when mapping.IsShared && mapping.IsWritable => Kind.Writable,
            _ when mapping.IsExecutable => Kind.Executable,
            _ => Kind.ReadOnly,
        };
        Add(mapping.Path, status, kind, isLog: false, isLeased: false);
    }

    private void Add(string path, FileStatus status, Kind kind, bool isLog, bool isLeased)
    {
        if (_files.TryGetValue(path, out var entry))
        {
            if (Rank(kind) > Rank(entry.Kind)) entry.Kind = kind;
            entry.IsLog &= isLog;
            entry.IsLeased |= isLeased;
        }
        else if (path.Contains('\ufffd', StringComparison.Ordinal))
        {
            _notes.Add($"{path} is not UTF-8, and is not compared.");
        }
        else if (_files.Count < MaxFiles)
        {
            _files.Add(path, new Entry { Status = status, Kind = kind, IsLog = isLog, IsLeased = isLeased });
        }
        else if (_files.Count == MaxFiles && _notes is not [.., "There are more files than are listed."])
        {
            _notes.Add("There are more files than are listed.");
        }
    }

    private List<SurveyedFile> Survey(CancellationToken cancellationToken)
    {
        long hashed = 0;
        long started = Stopwatch.GetTimestamp();
        var surveyed = new List<SurveyedFile>(_files.Count);
        foreach ((string path, var entry) in _files)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var file = new SurveyedFile
            {
                Path = path,
                Kind = entry.Kind,
                Mode = entry.Status.Mode,
                IsLog = entry.IsLog,
                Size = entry.Status.IsRegular ? (ulong)entry.Status.Size : 0,
            };
            surveyed.Add(file);
            if (entry.Kind is not (Kind.ReadOnly or Kind.Executable) || entry.IsLeased || entry.Status.Size is 0 or > MaxHashedFile
                || hashed + entry.Status.Size > MaxHashedTotal || Stopwatch.GetElapsedTime(started) > HashingLimit)
                continue;
            if (Hash(PathHere(path), entry.Status.Size, cancellationToken) is not { } hash)
            {
                _notes.Add($"{path} could not be read, and is compared by size only.");
                continue;
            }

            hashed += entry.Status.Size;
            file.Sha256 = ByteString.CopyFrom(hash);
        }

        return surveyed;
    }

    /// <summary>The SHA-256 of a regular file; null if it cannot be read or is not of that size.</summary>
    internal static byte[]? Hash(string path, long size, CancellationToken cancellationToken)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(256 << 10);
        try
        {
            using var file = File.OpenHandle(path, options: FileOptions.SequentialScan);
            using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
            long offset = 0;
            while (offset <= size)
            {
                cancellationToken.ThrowIfCancellationRequested();
                int read = RandomAccess.Read(file, buffer, offset);
                if (read == 0) break;
                hash.AppendData(buffer, 0, read);
                offset += read;
            }

            return offset == size ? hash.GetHashAndReset() : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    private static bool IsKernels(ProcessInspection process, FileStatus status) =>
        process.Mounts.Values.Any(mount => mount.Device == status.Device && mount.IsKernelInterface);

    private static int Rank(Kind kind) => kind switch
    {
        Kind.Writable => 3,
        Kind.Executable => 2,
        Kind.ReadOnly => 1,
        _ => 0,
    };

    private string PathHere(string path) => UnlinkedFile.RootPath(tree, proc) + path;

    private sealed class Entry
    {
        public required FileStatus Status { get; init; }

        public required Kind Kind { get; set; }

        public required bool IsLog { get; set; }

        public required bool IsLeased { get; set; }
    }
}
