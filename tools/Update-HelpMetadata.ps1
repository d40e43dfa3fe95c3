# Brings the syntax and the parameters' metadata in docs/help up to date with the cmdlets. The words are left as they are;
# a parameter that is new gets a placeholder, which the build then refuses until somebody has written what it is.
[CmdletBinding()]
param(
    [Parameter(Mandatory)][string]$Module,
    [Parameter(Mandatory)][string]$Pages
)

$ErrorActionPreference = 'Stop'
$common = [System.Management.Automation.Cmdlet]::CommonParameters

function Get-TypeName([type]$Type) {
    $inner = [Nullable]::GetUnderlyingType($Type)
    if ($inner) { return Get-TypeName $inner }
    $Type.Name
}

# Lines of at most 110 columns, broken before a parameter
function Format-Syntax([string]$Syntax) {
    $line = ''
    foreach ($part in $Syntax -split ' (?=\[*-\w)') {
        if ($line -and $line.Length + $part.Length -gt 109) { $line; $line = " $part" }
        else { $line = $line ? "$line $part" : $part }
    }
    $line
}

function Get-MetadataBlock($Parameter, $Sets, [int]$AllSets, $Default) {
    $inSet = $Sets | ForEach-Object { $_.Parameters | Where-Object Name -EQ $Parameter.Name } | Select-Object -First 1
    $pipeline = @(if ($inSet.ValueFromPipeline) { 'ByValue' }; if ($inSet.ValueFromPipelineByPropertyName) { 'ByPropertyName' })
    $type = $Parameter.ParameterType
    $element = [Nullable]::GetUnderlyingType($type) ?? ($type.IsArray ? $type.GetElementType() : $type)
    $validateSet = $Parameter.Attributes | Where-Object { $_ -is [ValidateSet] }
    $values = if ($element.IsEnum) { [Enum]::GetNames($element) } elseif ($validateSet) { $validateSet.ValidValues }
    $wildcards = [bool]($Parameter.Attributes | Where-Object { $_ -is [SupportsWildcards] })
    @(
        '```yaml'
        "Type: $(Get-TypeName $type)"
        "Parameter Sets: $($Sets.Count -eq $AllSets ? '(All)' : (($Sets.Name | Sort-Object) -join ', '))"
        "Aliases: $(($Parameter.Aliases | Sort-Object) -join ', ')".TrimEnd()
        if ($values) { "Accepted values: $($values -join ', ')" }
        ''
        "Required: $($inSet.IsMandatory)"
        "Position: $($inSet.Position -ge 0 ? $inSet.Position : 'Named')"
        "Default value: $Default"
        "Accept pipeline input: $($pipeline ? "True ($($pipeline -join ', '))" : 'False')"
        "Accept wildcard characters: $wildcards"
        '```'
    )
}

Import-Module $Module
foreach ($command in Get-Command -Module Phaul) {
    $path = Join-Path $Pages "$($command.Name).md"
    $old = (Test-Path $path) ? (Get-Content $path) : @('---', 'external help file: Phaul.PowerShell.dll-Help.xml', 'Module Name: Phaul', 'schema: 2.0.0', '---', "# $($command.Name)", '', '## SYNOPSIS', '{{ synopsis }}', '', '## SYNTAX', '', '## DESCRIPTION', '{{ description }}', '', '## EXAMPLES', '', '## PARAMETERS', '', '## INPUTS', '', '## OUTPUTS', '', '## NOTES', '', '## RELATED LINKS')
    $text = $old -join "`n"

    # What people wrote about each parameter, and its default value
    $words = @{}
    $defaults = @{}
    $section = [regex]::Match($text, '(?ms)^## PARAMETERS\n(.*?)(?=^## )').Groups[1].Value
    foreach ($entry in [regex]::Matches($section, '(?ms)^### -(\S+)\n(.*?)(?=^### |\z)')) {
        $words[$entry.Groups[1].Value] = [regex]::Replace($entry.Groups[2].Value, '(?ms)^```yaml\n.*?^```\n?', '').Trim()
        $default = [regex]::Match($entry.Groups[2].Value, '(?m)^Default value: (.*)$')
        if ($default.Success) { $defaults[$entry.Groups[1].Value] = $default.Groups[1].Value }
    }

    $sets = @($command.ParameterSets)
    $syntax = foreach ($set in $sets) {
        $name = ($set.Name -eq '__AllParameterSets') ? '(All)' : $set.Name
        ($set.IsDefault -and $sets.Count -gt 1) ? "### $name (Default)" : "### $name"
        '```'
        Format-Syntax "$($command.Name) $($set.ToString())"
        '```'
        ''
    }

    $parameters = foreach ($parameter in $command.Parameters.Values | Where-Object Name -NotIn $common | Sort-Object Name) {
        $in = @($sets | Where-Object { $_.Parameters.Name -contains $parameter.Name })
        "### -$($parameter.Name)"
        $words[$parameter.Name] ? $words[$parameter.Name] : '{{ what it is }}'
        ''
        Get-MetadataBlock $parameter $in $sets.Count ($defaults[$parameter.Name] ?? ($parameter.SwitchParameter ? 'False' : 'None'))
        ''
    }
    $parameters += '### CommonParameters', 'This cmdlet supports the common parameters; see [about_CommonParameters](https://go.microsoft.com/fwlink/?LinkID=113216).', ''

    $evaluator = { param($body) { param($match) $match.Groups[1].Value + "`n" + ($body -join "`n") + "`n" }.GetNewClosure() }
    $text = [regex]::Replace($text, '(?ms)^(## SYNTAX\n).*?(?=^## )', (& $evaluator $syntax))
    $text = [regex]::Replace($text, '(?ms)^(## PARAMETERS\n).*?(?=^## )', (& $evaluator $parameters))
    Set-Content $path ($text.TrimEnd() + "`n") -NoNewline
}
