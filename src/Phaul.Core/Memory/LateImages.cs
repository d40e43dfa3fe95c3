// What to restore from, if most of the memory is to follow.

using Phaul.Images.Pages;

namespace Phaul.Memory;

/// <summary>A restore whose memory is late in part.</summary>
/// <param name="Directory">What is restored from.</param>
/// <param name="WorkDirectory">Where CRIU writes its logs.</param>
/// <param name="Store">Has the late pages; null: the directory's own images have them.</param>
internal sealed record LateImages(string Directory, string WorkDirectory, PageStore? Store = null);
