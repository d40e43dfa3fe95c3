#!/usr/bin/env pwsh
# Builds, tests and packs the PowerShell module. Without pwsh, build.sh does what can be done without it.
<#
.SYNOPSIS
    Builds the module into out/Phaul, and more with -Task.
.EXAMPLE
    ./build.ps1
    Builds the module into out/Phaul.
.EXAMPLE
    ./build.ps1 -Task Test -TestPath tests/pester/Metadata.Tests.ps1
    Builds, then runs some of the tests.
.EXAMPLE
    ./build.ps1 -Task Pack, Install
    Makes the nupkg for a gallery, and installs the module for this user.
#>
[CmdletBinding()]
param(
    # What to do, in this order
    [Parameter(Position = 0)]
    [ValidateSet('Build', 'Test', 'Help', 'Pack', 'Install', 'Clean')]
    [string[]]$Task = 'Build',

    [ValidateSet('Debug', 'Release')]
    [string]$Configuration = 'Release',

    # Which Pester files Test runs
    [string[]]$TestPath = "$PSScriptRoot/tests/pester",

    # Test what is in out/Phaul, as it is
    [switch]$NoBuild
)

$ErrorActionPreference = 'Stop'
$out = Join-Path $PSScriptRoot 'out'
$module = Join-Path $out 'Phaul'

function Invoke-Dotnet {
    dotnet @args | Out-Host
    if ($LASTEXITCODE) { throw "dotnet $($args[0]) failed" }
}

function Build {
    Invoke-Dotnet build "$PSScriptRoot/src/Phaul.PowerShell" '-t:Module' -c $Configuration -v minimal -nologo "-p:ModuleDirectory=$module/"
    "built $module"
}

# The metadata in docs/help (syntax, types, aliases, positions) again from the cmdlets; the words are people's
function Help {
    Build
    pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/tools/Update-HelpMetadata.ps1" -Module $module -Pages "$PSScriptRoot/docs/help"
    if ($LASTEXITCODE) { throw 'the help could not be brought up to date' }
    Build
}

function Test {
    if (-not $NoBuild) { Build }
    if (-not (Get-Module -ListAvailable Pester | Where-Object Version -GE '5.0')) {
        Write-Warning 'left out: tests/pester (Pester 5 is not installed: Install-Module Pester -MinimumVersion 5.0)'
        return
    }

    # In a session of its own: a binary module cannot be loaded twice into one
    $results = Join-Path ([IO.Path]::GetTempPath()) "phaul-pester-$([guid]::NewGuid()).json"
    try {
        $env:PHAUL_MODULE = $module
        pwsh -NoProfile -NonInteractive -File "$PSScriptRoot/tests/pester/Run.ps1" -Path $TestPath -ResultPath $results | Out-Host
        if (-not (Test-Path $results)) { throw 'the tests did not run to their end' }
        $counts = Get-Content $results | ConvertFrom-Json
    }
    finally {
        Remove-Item $results -ErrorAction Ignore
        Remove-Item env:PHAUL_MODULE
    }

    "$($counts.Passed) passed, $($counts.Failed) failed, $($counts.Skipped) skipped"
    if ($counts.Failed) { exit 1 }
}

# A nupkg as a PowerShell gallery takes it: the module's files, a nuspec made from the manifest, and the package's own parts
function Pack {
    Build
    $manifest = Import-PowerShellDataFile "$module/Phaul.psd1"
    $package = Join-Path $out "Phaul.$($manifest.ModuleVersion).nupkg"
    & "$PSScriptRoot/packaging/New-ModulePackage.ps1" -Module $module -Destination $package
    "packed $package"
}

function Install {
    Build
    $version = (Import-PowerShellDataFile "$module/Phaul.psd1").ModuleVersion
    # The first place of the user's own in PSModulePath is where PowerShell itself installs modules for the user
    $userModules = Join-Path ([Environment]::GetFolderPath('LocalApplicationData')) 'powershell/Modules'
    $place = $env:PSModulePath -split [IO.Path]::PathSeparator | Where-Object { $_.StartsWith($HOME) } | Select-Object -First 1
    $target = Join-Path ($place ? $place : $userModules) 'Phaul' $version
    if (Test-Path $target) { Remove-Item $target -Recurse -Force }
    New-Item -ItemType Directory $target -Force | Out-Null
    Copy-Item "$module/*" $target -Recurse
    "installed $target"
}

function Clean {
    if (Test-Path $module) { Remove-Item $module -Recurse -Force }
    Get-ChildItem $out -Filter 'Phaul.*.nupkg' -ErrorAction Ignore | Remove-Item
    "removed $module"
}

foreach ($name in $Task) { & $name }
