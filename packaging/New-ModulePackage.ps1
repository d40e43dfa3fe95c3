# Makes the nupkg that a PowerShell gallery takes, out of the assembled module: an Open Packaging file with a nuspec.
[CmdletBinding()]
param(
    [Parameter(Mandatory)][string]$Module,
    [Parameter(Mandatory)][string]$Destination
)

$ErrorActionPreference = 'Stop'
$manifest = Test-ModuleManifest "$Module/Phaul.psd1"
$data = $manifest.PrivateData.PSData
$escape = { [System.Security.SecurityElement]::Escape($args[0]) }
$tags = @('PSModule') + $data.Tags + $manifest.ExportedCmdlets.Keys.ForEach{ "PSCmdlet_$_" }

$nuspec = @"
<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://schemas.microsoft.com/packaging/2011/08/nuspec.xsd">
  <metadata>
    <id>$($manifest.Name)</id>
    <version>$($manifest.Version)</version>
    <authors>$(& $escape $manifest.Author)</authors>
    <owners>$(& $escape $manifest.CompanyName)</owners>
    <requireLicenseAcceptance>false</requireLicenseAcceptance>
    <license type="expression">Apache-2.0</license>
    <description>$(& $escape $manifest.Description)</description>
    <releaseNotes>$(& $escape $data.ReleaseNotes)</releaseNotes>
    <copyright>$(& $escape $manifest.Copyright)</copyright>
    <tags>$($tags -join ' ')</tags>
  </metadata>
</package>
"@

$relationships = @'
<?xml version="1.0" encoding="utf-8"?>
<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
  <Relationship Type="http://schemas.microsoft.com/packaging/2010/07/manifest" Target="/Phaul.nuspec" Id="manifest" />
</Relationships>
'@

$files = @(Get-ChildItem $Module -Recurse -File | Sort-Object FullName)
$extensions = @('nuspec', 'rels') + $files.ForEach{ $_.Extension.TrimStart('.') } | Where-Object { $_ } | Sort-Object -Unique
$named = $files.Where{ -not $_.Extension }.ForEach{ [IO.Path]::GetRelativePath($Module, $_.FullName) }
$types = @(
    '<?xml version="1.0" encoding="utf-8"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    $extensions.ForEach{ "  <Default Extension=""$_"" ContentType=""$($_ -eq 'rels' ? 'application/vnd.openxmlformats-package.relationships+xml' : 'application/octet')"" />" }
    $named.ForEach{ "  <Override PartName=""/$_"" ContentType=""application/octet"" />" }
    '</Types>'
) -join "`n"

if (Test-Path $Destination) { Remove-Item $Destination }
$archive = [System.IO.Compression.ZipFile]::Open($Destination, 'Create')
try {
    # The same input gives the same package
    $time = [DateTimeOffset]::new(2000, 1, 1, 0, 0, 0, [TimeSpan]::Zero)
    $add = {
        param($name, [byte[]]$content)
        $entry = $archive.CreateEntry($name, 'Optimal')
        $entry.LastWriteTime = $time
        $stream = $entry.Open()
        $stream.Write($content, 0, $content.Length)
        $stream.Dispose()
    }
    & $add '[Content_Types].xml' ([Text.Encoding]::UTF8.GetBytes($types))
    & $add '_rels/.rels' ([Text.Encoding]::UTF8.GetBytes($relationships))
    & $add 'Phaul.nuspec' ([Text.Encoding]::UTF8.GetBytes($nuspec))
    foreach ($file in $files) {
        & $add ([IO.Path]::GetRelativePath($Module, $file.FullName)) ([IO.File]::ReadAllBytes($file.FullName))
    }
}
finally {
    $archive.Dispose()
}
