// A certificate or fingerprint that cannot be used.

namespace Phaul.PowerShell.Trust;

/// <summary>What is wrong with a value given for -Certificate or -TrustedCertificate.</summary>
internal sealed class CertificateSourceException(
    string errorId, string message, string recommendedAction, object? value, Exception? cause = null)
    : Exception(message, cause)
{
    /// <summary>The stable id of the error record.</summary>
    public string ErrorId => errorId;

    /// <summary>What to do next.</summary>
    public string RecommendedAction => recommendedAction;

    /// <summary>The value.</summary>
    public object? Value => value;
}
