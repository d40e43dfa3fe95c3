# Two hosts with the real CRIU, for Pester: tests/lab/lab with the module bound in, and programs that prove their continuity.

$root = Resolve-Path "$PSScriptRoot/../.."
$tool = "$root/tests/lab/lab"

# Null, or why there can be no lab here
function Get-LabObstacle {
    if ((id -u) -ne 0) { 'the lab needs root' }
    elseif (-not (Test-Path $tool)) { 'there is no lab' }
}

function Start-Lab([string]$Module) {
    $programs = New-Item -ItemType Directory (Join-Path ([IO.Path]::GetTempPath()) "phaul-programs-$([guid]::NewGuid())")
    & $tool prepare *> $null
    & $tool prepare-programs $programs *> $null
    if ($LASTEXITCODE) { throw 'the lab could not be prepared' }
    $start = [System.Diagnostics.ProcessStartInfo]::new($tool)
    'start', '--bind', "${programs}:/opt/programs", '--bind', "$(Resolve-Path $Module):/opt/Phaul" | ForEach-Object { $start.ArgumentList.Add($_) }
    $start.RedirectStandardInput = $start.RedirectStandardOutput = $true
    $process = [System.Diagnostics.Process]::Start($start)
    # The lab ends when this input does: with this session, whatever becomes of it
    $ready = $process.StandardOutput.ReadLine() -split ' '
    if ($ready[0] -ne 'READY') { throw 'the lab did not start' }
    $lab = [pscustomobject]@{ Directory = $ready[1]; Shared = "$($ready[1])/shared"; Programs = $programs; Process = $process; Count = 0; Fingerprint = @{} }
    foreach ($name in 'a', 'b') {
        $lab.Fingerprint[$name] = Invoke-OnHost $lab $name '(New-PhaulCertificate).Fingerprint'
    }
    foreach ($pair in @(, ('a', 'b')) + @(, ('b', 'a'))) {
        Invoke-OnHost $lab $pair[0] "New-Item -ItemType Directory /etc/phaul/trusted | Out-Null; '$($lab.Fingerprint[$pair[1]])' | Set-Content /etc/phaul/trusted/$($pair[1])"
    }
    $lab
}

function Stop-Lab($Lab) {
    $Lab.Process.StandardInput.Close()
    if (-not $Lab.Process.WaitForExit(30000)) { throw 'the lab did not end' }
    Remove-Item $Lab.Programs -Recurse
}

# The script that a host runs, with the module imported
function New-HostScript($Lab, [string]$Script) {
    $Lab.Count++
    $name = "script-$($Lab.Count).ps1"
    Set-Content "$($Lab.Shared)/$name" "`$ProgressPreference = 'SilentlyContinue'; `$PSStyle.OutputRendering = 'PlainText'; Import-Module /opt/Phaul`n$Script"
    "/shared/$name"
}

# Runs a script in a pwsh of a host, for three minutes at most, and returns its lines, errors among them
function Invoke-OnHost($Lab, [string]$Name, [string]$Script) {
    & timeout --signal=TERM --kill-after=10 180 $tool exec $Lab.Directory $Name pwsh -NoProfile -NonInteractive -File (New-HostScript $Lab $Script) 2>&1 | ForEach-Object { "$_" }
}

# The same for objects: what the script assigns to $result comes back as through remoting
function Get-FromHost($Lab, [string]$Name, [string]$Script) {
    $file = "result-$([guid]::NewGuid()).xml"
    $output = Invoke-OnHost $Lab $Name "$Script`n`$result | Export-Clixml /shared/$file -Depth 1"
    if (-not (Test-Path "$($Lab.Shared)/$file")) { throw "no result: $output" }
    Import-Clixml "$($Lab.Shared)/$file"
}

# Starts a script in a pwsh of a host; its output goes to the file Output
function Start-OnHost($Lab, [string]$Name, [string]$Script) {
    $output = "$($Lab.Shared)/output-$([guid]::NewGuid()).txt"
    New-Item $output | Out-Null
    $start = [System.Diagnostics.ProcessStartInfo]::new('/bin/sh')
    '-c', 'exec "$0" exec "$1" "$2" pwsh -NoProfile -NonInteractive -File "$3" > "$4" 2>&1', $tool, $Lab.Directory, $Name, (New-HostScript $Lab $Script), $output |
        ForEach-Object { $start.ArgumentList.Add($_) }
    $start.RedirectStandardInput = $true
    [pscustomobject]@{ Process = [System.Diagnostics.Process]::Start($start); Output = $output }
}

function Send-Signal($Running, [string]$Signal) { & kill "-$Signal" $Running.Process.Id }

# Ends a script; true if it ended within the time
function Wait-OnHost($Running, [int]$Seconds = 60) { $Running.Process.WaitForExit($Seconds * 1000) }

function Stop-OnHost($Running) {
    if ($Running -and -not $Running.Process.HasExited) {
        Send-Signal $Running TERM
        if (-not (Wait-OnHost $Running 30)) { $Running.Process.Kill() }
    }
}

# A server on b that a trusts, in a session of its own
function Start-LabServer($Lab, [string]$Options = '') {
    $running = Start-OnHost $Lab b "Start-PhaulServer -Address 10.77.0.2 $Options -Wait -Verbose 4>&1"
    Wait-Until { $running.Process.HasExited -or (Select-String -Quiet Listening $running.Output) }
    if ($running.Process.HasExited) { throw "the server ended: $(Get-Content $running.Output)" }
    $running
}

# Starts a program on a host as CRIU can dump it; with a log in /shared that proves its continuity
function Start-Program($Lab, [string]$Name, [string[]]$Command) {
    $Lab.Count++
    $log = "/shared/program-$($Lab.Count).log"
    $started = & $tool exec -d $Lab.Directory $Name "/opt/programs/$($Command[0])" $Command[1..9] --log $log
    $program = [pscustomobject]@{ Id = [int]$started; Log = "$($Lab.Directory)$log" }
    Wait-Until { (Get-Steps $program) -gt 20 }
    $program
}

function Get-Steps($Program) { (Test-Path $Program.Log) ? @(Select-String '^\d' $Program.Log).Count : 0 }

# Fails unless the program goes on, and has not lost, repeated or garbled a step
function Assert-Continuity($Program) {
    $before = Get-Steps $Program
    Wait-Until { (Get-Steps $Program) -gt $before + 20 }
    $check = & "$root/tests/lab/check-log" $Program.Log
    if ($LASTEXITCODE) { throw "the program is not what it was: $check" }
}

function Test-OnHost($Lab, [string]$Name, [int]$Id) {
    & $tool exec $Lab.Directory $Name test -e "/proc/$Id"
    $LASTEXITCODE -eq 0
}

function Stop-Program($Lab, $Program) {
    foreach ($name in 'a', 'b') { & $tool exec $Lab.Directory $name kill -9 $Program.Id 2> $null }
}

function Set-LabLink($Lab, [string]$Rate) { & $tool limit $Lab.Directory $Rate }

function Wait-Until([scriptblock]$Condition, [int]$Seconds = 60) {
    $end = [DateTime]::UtcNow.AddSeconds($Seconds)
    while (-not (& $Condition)) {
        if ([DateTime]::UtcNow -gt $end) { throw "this did not come true: $Condition" }
        Start-Sleep -Milliseconds 50
    }
}

Export-ModuleMember -Function *
