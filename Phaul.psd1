# The manifest of the PowerShell module. The build copies it into out/Phaul, beside what it names.
@{
    ModuleVersion        = '0.1.0'
    GUID                 = '5f0c8f0e-5c2f-4b5b-9a43-7a1c2be0c9d1'
    Author               = 'Phaul developers'
    CompanyName          = 'Phaul'
    Copyright            = 'Copyright (c) the Phaul developers. Apache-2.0.'
    Description          = 'Moves running Linux processes from one host to another with CRIU: exactly one copy exists and runs, whatever fails in between.'

    PowerShellVersion    = '7.4'
    CompatiblePSEditions = @('Core')

    # The loader comes first: it lets the cmdlets' assembly find Phaul.Core in a load context of the module's own
    NestedModules        = @('Phaul.PowerShell.Loader.dll')
    RootModule           = 'Phaul.PowerShell.dll'
    TypesToProcess       = @('Phaul.Types.ps1xml')
    FormatsToProcess     = @('Phaul.Format.ps1xml')

    CmdletsToExport      = @(
        'Get-PhaulIteration'
        'Get-PhaulMigration'
        'Get-PhaulServer'
        'Invoke-PhaulMigration'
        'New-PhaulCertificate'
        'Resolve-PhaulMigration'
        'Start-PhaulServer'
        'Stop-PhaulServer'
        'Test-PhaulMigration'
    )
    FunctionsToExport    = @()
    VariablesToExport    = @()
    AliasesToExport      = @()

    PrivateData          = @{
        PSData = @{
            Tags         = @('Linux', 'CRIU', 'migration', 'checkpoint', 'restore', 'live-migration', 'PSEdition_Core')
            ReleaseNotes = 'See CHANGELOG.md.'
        }
    }
}
