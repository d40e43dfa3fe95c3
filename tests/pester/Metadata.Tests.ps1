# What a PowerShell person expects of any module: manifest, verbs, output types, and help that agrees with the cmdlets.

BeforeDiscovery {
    $module = $env:PHAUL_MODULE ?? "$PSScriptRoot/../../out/Phaul"
    Import-Module $module
    $common = [System.Management.Automation.Cmdlet]::CommonParameters
    $commands = Get-Command -Module Phaul | ForEach-Object { @{ Name = $_.Name; Command = $_ } }
    $parameters = Get-Command -Module Phaul | ForEach-Object {
        $command = $_
        $command.Parameters.Values | Where-Object Name -NotIn $common | ForEach-Object { @{ Name = $command.Name; Command = $command; Parameter = $_; ParameterName = $_.Name } }
    }
}

Describe 'The manifest' {
    BeforeAll {
        $path = $env:PHAUL_MODULE ?? "$PSScriptRoot/../../out/Phaul"
        $manifest = Test-ModuleManifest "$path/Phaul.psd1"
    }

    It 'is one that PowerShell accepts' {
        $manifest.Name | Should -Be 'Phaul'
        $manifest.PowerShellVersion | Should -Be '7.4'
    }

    It 'names everything that is exported, and nothing else is' {
        $manifest.ExportedCmdlets.Keys | Sort-Object | Should -Be ((Get-Command -Module Phaul).Name | Sort-Object)
        $manifest.ExportedFunctions.Count + $manifest.ExportedVariables.Count + $manifest.ExportedAliases.Count | Should -Be 0
    }

    It 'exports every cmdlet of the design' {
        'Get-PhaulIteration', 'Get-PhaulMigration', 'Get-PhaulServer', 'Invoke-PhaulMigration', 'New-PhaulCertificate',
        'Resolve-PhaulMigration', 'Start-PhaulServer', 'Stop-PhaulServer', 'Test-PhaulMigration' | Should -BeIn $manifest.ExportedCmdlets.Keys
    }

    It 'has the version of the assembly' {
        (Get-Module Phaul).NestedModules[0].Version.ToString(3) | Should -Be $manifest.Version.ToString()
    }
}

Describe '<Name>' -ForEach $commands {
    It 'has an approved verb' {
        $Command.Verb | Should -BeIn (Get-Verb).Verb
    }

    It 'says what it emits' {
        $Command.OutputType | Should -Not -BeNullOrEmpty
        $Command.OutputType.Type | Should -Not -Contain $null
        # A script can name it: -is [Phaul.PhaulMigrationResult]
        foreach ($type in $Command.OutputType.Type) { $type.FullName -as [type] | Should -Be $type }
    }

    It 'has help with synopsis, description, at least three examples, inputs, outputs and links' {
        $help = Get-Help $Name -Full
        $help.Synopsis | Should -Not -BeLike "$Name *"
        $help.description.Text | Should -Not -BeNullOrEmpty
        @($help.examples.example).Count | Should -BeGreaterOrEqual 3
        foreach ($example in $help.examples.example) {
            $example.code | Should -BeLike "*$Name*"
            $example.remarks.Text | Should -Not -BeNullOrEmpty
        }
        $help.inputTypes.inputType | Should -Not -BeNullOrEmpty
        $help.relatedLinks.navigationLink | Should -Not -BeNullOrEmpty
    }

    It 'has examples that PowerShell can parse, with parameters that exist' {
        foreach ($example in (Get-Help $Name -Full).examples.example) {
            $code = ($example.code -split "`n" | Where-Object { $_ -match '^(PS>|>>) ' }) -replace '^(PS>|>>) ' -join "`n"
            $errors = $null
            $ast = [System.Management.Automation.Language.Parser]::ParseInput($code, [ref]$null, [ref]$errors)
            $errors | Should -BeNullOrEmpty -Because $code
            foreach ($used in $ast.FindAll({ $args[0] -is [System.Management.Automation.Language.CommandAst] }, $true)) {
                $called = Get-Command $used.GetCommandName() -ErrorAction Ignore
                if ($called.ModuleName -eq 'Phaul') {
                    $given = $used.CommandElements.Where{ $_ -is [System.Management.Automation.Language.CommandParameterAst] }.ParameterName
                    foreach ($one in $given) { $called.Parameters.Keys | Should -Contain $one -Because $code }
                }
            }
        }
    }

    It 'has help for the parameters that it has, and for no others' {
        $documented = (Get-Help $Name -Full).parameters.parameter.name | Sort-Object
        $real = $Command.Parameters.Keys | Where-Object { $_ -notin [System.Management.Automation.Cmdlet]::CommonParameters } | Sort-Object
        $documented | Should -Be $real
    }

    It 'has the syntax in its page that it has' {
        $page = Get-Content "$PSScriptRoot/../../docs/help/$Name.md" -Raw
        $section = [regex]::Match($page, '(?ms)^## SYNTAX\n(.*?)(?=^## )').Groups[1].Value
        $documented = [regex]::Matches($section, '(?ms)^```\n(.*?)^```').ForEach{ $_.Groups[1].Value -replace '\s+', ' ' -replace '^ | $' }
        $real = $Command.ParameterSets.ForEach{ "$Name $_" }
        $documented | Sort-Object | Should -Be ($real | Sort-Object)
    }

    It 'shows the same parameter sets in Get-Help' {
        $shown = (Get-Help $Name -Full).syntax.syntaxItem
        @($shown).Count | Should -Be $Command.ParameterSets.Count
        $names = @($shown.ForEach{ ($_.parameter.name | Sort-Object) -join ' ' } | Sort-Object)
        $real = @($Command.ParameterSets.ForEach{ ($_.Parameters.Name.Where{ $_ -notin [System.Management.Automation.Cmdlet]::CommonParameters } | Sort-Object) -join ' ' } | Sort-Object)
        $names | Should -Be $real
    }
}

Describe '<Name> -<ParameterName>' -ForEach $parameters {
    BeforeAll {
        $help = (Get-Help $Name -Full).parameters.parameter | Where-Object name -EQ $ParameterName
        $inSet = $Command.ParameterSets.ForEach{ $_.Parameters | Where-Object Name -EQ $ParameterName } | Select-Object -First 1
    }

    It 'is described as it is' {
        $help.description.Text | Should -Not -BeNullOrEmpty
        $type = [Nullable]::GetUnderlyingType($Parameter.ParameterType) ?? $Parameter.ParameterType
        $help.type.name | Should -Be $type.Name
        $help.required | Should -Be $inSet.IsMandatory.ToString().ToLowerInvariant()
        $help.position | Should -Be ($inSet.Position -ge 0 ? "$($inSet.Position)" : 'named')
        $help.aliases | Should -Be ($Parameter.Aliases.Count ? (($Parameter.Aliases | Sort-Object) -join ', ') : 'none')
        ($help.pipelineInput -match 'ByValue') | Should -Be $inSet.ValueFromPipeline
        ($help.pipelineInput -match 'ByPropertyName') | Should -Be $inSet.ValueFromPipelineByPropertyName
        $help.globbing | Should -Be ([bool]($Parameter.Attributes | Where-Object { $_ -is [SupportsWildcards] })).ToString().ToLowerInvariant()
        $inSets = @($Command.ParameterSets.Where{ $_.Parameters.Name -contains $ParameterName }.Name | Sort-Object)
        $page = Get-Content "$PSScriptRoot/../../docs/help/$Name.md" -Raw
        $documented = [regex]::Match($page, "(?ms)^### -$ParameterName\n.*?^Parameter Sets: ([^\n]*)").Groups[1].Value
        $documented | Should -Be ($inSets.Count -eq $Command.ParameterSets.Count ? '(All)' : ($inSets -join ', '))
    }
}

Describe 'The topics' {
    It '<_> is there' -ForEach 'about_Phaul', 'about_Phaul_Trust', 'about_Phaul_Modes' {
        (Get-Help $_) | Should -BeLike "*$_*"
    }
}
