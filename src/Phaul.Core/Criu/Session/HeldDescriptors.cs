// Descriptors that CRIU opens by their number in this process, kept valid for one request.
using Microsoft.Win32.SafeHandles;
using Phaul.Criu.Rpc;
using Phaul.Native;

namespace Phaul.Criu;

/// <summary>
/// CRIU opens /proc/OUR-PID/fd/NUMBER at a time of its own choosing. The numbers in the options are the caller's, who may
/// close one meanwhile, and the kernel may then give it to another file: duplicates that nobody else closes go in their place.
/// </summary>
internal sealed class HeldDescriptors : IDisposable
{
    private readonly List<SafeFileHandle> _held = [];

    /// <summary>Gives a request a copy of its options, with duplicates in place of the descriptors.</summary>
    /// <exception cref="ArgumentException">A descriptor is not open.</exception>
    public static HeldDescriptors Of(CriuRequest request)
    {
        var held = new HeldDescriptors();
        try
        {
            if (request.Opts is not null) request.Opts = held.Hold(request.Opts);
            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _held.ForEach(handle => handle.Dispose());

    private CriuOpts Hold(CriuOpts options)
    {
        var copy = options.Clone();
        copy.ImagesDirFd = copy.ImagesDirFd >= 0 ? Hold(copy.ImagesDirFd, "images_dir_fd") : -1; // CRIU demands that it is set
        if (copy.HasWorkDirFd) copy.WorkDirFd = Hold(copy.WorkDirFd, "work_dir_fd");
        if (copy.HasStatusFd) copy.StatusFd = Hold(copy.StatusFd, "status_fd");
        if (copy.HasPidfdStoreSk) copy.PidfdStoreSk = Hold(copy.PidfdStoreSk, "pidfd_store_sk");
        return copy;
    }

    private int Hold(int descriptor, string option)
    {
        try
        {
            var duplicate = DescriptorDuplicate.OfNumber(descriptor);
            _held.Add(duplicate);
            return (int)duplicate.DangerousGetHandle();
        }
        catch (NativeException exception)
        {
            throw new ArgumentException($"{option} is {descriptor}, which is not open.", "options", exception);
        }
    }
}
