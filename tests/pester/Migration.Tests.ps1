# The module at work: in a real pwsh on two hosts with the real CRIU.

BeforeDiscovery {
    Import-Module "$PSScriptRoot/Lab.psm1" -Force
    $obstacle = Get-LabObstacle
    if ($obstacle) { Write-Warning "left out: migrations in the lab ($obstacle)" }
}

BeforeAll {
    Import-Module "$PSScriptRoot/Lab.psm1" -Force
    $module = $env:PHAUL_MODULE ?? "$PSScriptRoot/../../out/Phaul"
    Import-Module $module
    if (-not (Get-LabObstacle)) { $lab = Start-Lab $module }
}

AfterAll {
    if ($lab) { Stop-Lab $lab }
}

Describe 'Migrations' -Skip:([bool]$obstacle) {
    BeforeAll { $server = Start-LabServer $lab }
    AfterAll { Stop-OnHost $server }
    BeforeEach { $programs = @() }
    AfterEach {
        $programs | ForEach-Object { Stop-Program $lab $_ }
        Set-LabLink $lab off
    }

    It 'iterates where the kernel tracks nothing' {
        $programs += $counter = Start-Program $lab a counter, 16, 10
        $objects = Get-FromHost $lab a '$result = Get-Process counter | Invoke-PhaulMigration -ComputerName 10.77.0.2 -Mode Prefetch -Confirm:$false'

        $result = $objects[-1]
        $result.State | Should -Be 'Completed'
        $result.Mode | Should -Be 'Prefetch'
        $iterations = $objects[0..($objects.Count - 2)]
        $iterations.Count | Should -BeGreaterThan 1
        $iterations[0].FrozenTime | Should -Be ([timespan]::Zero)
        $iterations[-1].FrozenTime | Should -BeGreaterThan ([timespan]::Zero)
        $iterations[-1].PagesSkipped | Should -BeGreaterThan $iterations[-1].PagesWritten
        Assert-Continuity $counter
        Test-OnHost $lab b $counter.Id | Should -BeTrue
    }

    It 'moves a process from the pipeline, and emits its iterations and one result' {
        $programs += $counter = Start-Program $lab a counter, 16, 10
        $objects = Get-FromHost $lab a '$result = Get-Process counter | Invoke-PhaulMigration -ComputerName 10.77.0.2 -Confirm:$false -WarningAction Ignore'

        $objects[0].PSTypeNames[0] | Should -Be 'Deserialized.Phaul.PhaulIteration'
        $result = $objects[-1]
        $result.PSTypeNames[0] | Should -Be 'Deserialized.Phaul.PhaulMigrationResult'
        @($objects).Count | Should -Be ($result.IterationCount + 1)
        $result.State | Should -Be 'Completed'
        $result.ProcessName | Should -Be 'counter'
        $result.DestinationPid | Should -Be $counter.Id
        $result.Downtime | Should -BeOfType timespan
        $result.Downtime | Should -BeGreaterThan ([timespan]::Zero)
        $result.BytesSent | Should -BeGreaterThan 16MB
        $result.States[-1] | Should -Match 'State = Completed'

        Assert-Continuity $counter
        Test-OnHost $lab a $counter.Id | Should -BeFalse
        Test-OnHost $lab b $counter.Id | Should -BeTrue

        # Both hosts have the record
        foreach ($name in 'a', 'b') {
            $summary = Get-FromHost $lab $name "`$result = Get-PhaulMigration $($result.MigrationId)"
            $summary.Downtime | Should -Be $result.Downtime
            $iterations = @(Get-FromHost $lab $name "`$result = Get-PhaulMigration -Newest 1 | Get-PhaulIteration")
            $iterations.PagesWritten | Should -Be $objects[0..($objects.Count - 2)].PagesWritten
        }

        # What has come through a file still looks as it does at home, with units
        $table = $objects | Format-Table | Out-String -Width 120
        $table | Should -Match "Migration: $($result.MigrationId)"
        $table | Should -Match '16\.\d+ MiB'
        $table | Should -Match '\d (ms|s)\b'
        ($result | Format-List | Out-String) | Should -Match 'Process\s*: counter \(\d+\)'
        # A result behind iterations is shown by its display set
        ($objects | Out-String -Width 120) | Should -Match 'Summary\s*: down for [\d.]+ (ms|s), 16\.\d+ MiB sent in '
    }

    It 'does nothing with -WhatIf' {
        $programs += $counter = Start-Program $lab a counter, 1, 1
        $before = Get-FromHost $lab a '$result = @(Get-PhaulMigration).Count'
        $output = Invoke-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -WhatIf"
        $output | Should -BeLike "What if: *Migrate to 10.77.0.2:7248*counter ($($counter.Id))*"
        Get-FromHost $lab a '$result = @(Get-PhaulMigration).Count' | Should -Be $before
        Assert-Continuity $counter
    }

    It 'can be followed from another session, which ends with it' {
        $programs += $counter = Start-Program $lab a counter, 32, 10
        Set-LabLink $lab 100mbit
        $moving = Start-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force | Select-Object -Last 1 | ForEach-Object State"
        Wait-Until { (Get-FromHost $lab a "`$result = @(Get-PhaulMigration | Where-Object { `$_.Pid -eq $($counter.Id) -and `$_.IsRunning }).Count") -eq 1 }
        $followed = Get-FromHost $lab a '$result = @(Get-PhaulIteration -Last -Wait)'
        Wait-OnHost $moving | Should -BeTrue
        Get-Content $moving.Output | Should -Contain 'Completed'
        $followed[-1].Decision | Should -Be 'Final'
        $followed[-1].PagesWritten | Should -BeGreaterThan 8000
        Assert-Continuity $counter
    }

    It 'rolls back on Stop-Job, and the job says where the program is' {
        $programs += $counter = Start-Program $lab a counter, 64, 10
        Set-LabLink $lab 50mbit
        $job = Get-FromHost $lab a @"
`$job = Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -AsJob -JobName moving
while (`$job.State -eq 'Running' -and -not (`$job.ChildJobs[0].Progress.StatusDescription -match 'Freezing')) { Start-Sleep -Milliseconds 20 }
`$before = `$job.State
Stop-Job `$job
Receive-Job `$job -ErrorVariable failed -ErrorAction SilentlyContinue -WarningAction Ignore | Out-Null
`$result = [pscustomobject]@{ Before = `$before; After = `$job.State; Type = `$job.PSJobTypeName; Name = `$job.Name; Child = `$job.ChildJobs[0].State
  Id = `$failed[0].FullyQualifiedErrorId; State = `$failed[0].Exception.ProgramState.ToString(); Text = `$failed[0].ErrorDetails.Message
  Action = `$failed[0].ErrorDetails.RecommendedAction; Category = `$failed[0].CategoryInfo.Category.ToString(); Target = `$failed[0].TargetObject.Id; Count = `$failed.Count }
"@
        $job.Before | Should -Be 'Running'
        $job.After | Should -Be 'Stopped'
        $job.Child | Should -Be 'Stopped'
        $job.Type | Should -Be 'PhaulMigrationJob'
        $job.Name | Should -Be 'moving'
        $job.Count | Should -Be 1
        $job.Id | Should -Match '^Cancelled'
        $job.Category | Should -Be 'OperationStopped'
        $job.State | Should -Be 'RunningOnSource'
        $job.Text | Should -Match 'runs on the source'
        $job.Action | Should -Not -BeNullOrEmpty
        $job.Target | Should -Be $counter.Id
        Assert-Continuity $counter
        Test-OnHost $lab a $counter.Id | Should -BeTrue
        Test-OnHost $lab b $counter.Id | Should -BeFalse
    }

    It 'gives with a job what it gives without' {
        $programs += $counter = Start-Program $lab a counter, 4, 1
        $objects = Get-FromHost $lab a "`$result = Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -AsJob | Receive-Job -Wait -AutoRemoveJob -WarningAction Ignore"
        $objects[-1].State | Should -Be 'Completed'
        $objects[0].Kind | Should -Be 'FinalDump'
        Assert-Continuity $counter
    }

    It 'rolls back on Ctrl+C, says so, and leaves the error in $Error' {
        $programs += $counter = Start-Program $lab a counter, 64, 10
        Set-LabLink $lab 50mbit
        $moving = Start-OnHost $lab a @"
try { Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -Verbose }
finally { [IO.File]::WriteAllText('/shared/after-stop', "`$(`$Error[0].FullyQualifiedErrorId)|`$(`$Error[0].Exception.ProgramState)") }
"@
        Wait-Until { Select-String -Quiet ': Freezing' $moving.Output }
        Send-Signal $moving INT
        Wait-OnHost $moving | Should -BeTrue
        Get-Content "$($lab.Shared)/after-stop" | Should -Be 'Cancelled|RunningOnSource'
        (Get-Content $moving.Output -Raw) | Should -Match "Cannot migrate counter \($($counter.Id)\).*runs on the source"
        Assert-Continuity $counter
        Test-OnHost $lab b $counter.Id | Should -BeFalse
    }

    It 'settles what a session that was killed has left' {
        $programs += $counter = Start-Program $lab a counter, 64, 10
        Set-LabLink $lab 50mbit
        $moving = Start-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -Verbose"
        Wait-Until { Select-String -Quiet ': Freezing' $moving.Output }
        Send-Signal $moving KILL
        Wait-OnHost $moving | Should -BeTrue
        Wait-Until { (Get-FromHost $lab a '$result = @(Get-PhaulMigration -Unresolved).Count') -eq 1 }
        $resolution = Get-FromHost $lab a '$result = Resolve-PhaulMigration -All'
        $resolution.Outcome | Should -Be 'Settled'
        $resolution.State | Should -Be 'RolledBack'
        $resolution.ProgramState | Should -Be 'RunningOnSource'
        $resolution.Pid | Should -Be $counter.Id
        Get-FromHost $lab a '$result = @(Get-PhaulMigration -Unresolved).Count' | Should -Be 0
        Assert-Continuity $counter
        Test-OnHost $lab a $counter.Id | Should -BeTrue
    }

    It 'goes on with the next process when one cannot be moved' {
        $programs += $first = Start-Program $lab a counter, 4, 1
        $programs += $second = Start-Program $lab a undumpable, sysv
        $programs += $third = Start-Program $lab a counter, 4, 1
        $run = Get-FromHost $lab a @"
`$moved = $($first.Id), $($second.Id), $($third.Id) | Get-Process -Id { `$_ } | Invoke-PhaulMigration -ComputerName 10.77.0.2 -Force -ErrorVariable failed -ErrorAction SilentlyContinue -WarningAction Ignore |
  Where-Object { `$_ -is [Phaul.PhaulMigrationResult] }
`$result = [pscustomobject]@{ Moved = @(`$moved.Pid); Count = `$failed.Count; Target = `$failed[0].TargetObject.Id; Id = `$failed[0].FullyQualifiedErrorId
  Text = `$failed[0].ErrorDetails.Message; State = "`$(`$failed[0].Exception.ProgramState)" }
"@
        $run.Moved | Should -Be $first.Id, $third.Id
        $run.Count | Should -Be 1
        $run.Target | Should -Be $second.Id
        $run.Text | Should -Match "undumpable \($($second.Id)\)"
        $run.State | Should -Be 'RunningOnSource'
        $run.Id | Should -Match '^(DumpFailed|CheckFailed),Phaul\.PowerShell\.Cmdlets\.InvokePhaulMigrationCommand$'
        $first, $second, $third | ForEach-Object { Assert-Continuity $_ }
        Test-OnHost $lab a $second.Id | Should -BeTrue
        Test-OnHost $lab b $first.Id | Should -BeTrue
        Test-OnHost $lab b $third.Id | Should -BeTrue
    }

    It 'stops at the first that cannot be moved with -ErrorAction Stop' {
        $programs += $first = Start-Program $lab a undumpable, sysv
        $programs += $second = Start-Program $lab a counter, 4, 1
        $output = Invoke-OnHost $lab a "try { Get-Process -Id $($first.Id), $($second.Id) | Sort-Object Name -Descending | Invoke-PhaulMigration -ComputerName 10.77.0.2 -Force -ErrorAction Stop } catch [Phaul.PhaulException] { 'caught ' + `$_.TargetObject.Id }"
        $output | Should -Contain "caught $($first.Id)"
        Test-OnHost $lab a $second.Id | Should -BeTrue
        $first, $second | ForEach-Object { Assert-Continuity $_ }
    }

    It 'moves several at the same time with -ThrottleLimit' {
        $programs += 1..3 | ForEach-Object { Start-Program $lab a counter, 4, 1 }
        $results = Get-FromHost $lab a '$result = Get-Process counter | Invoke-PhaulMigration -ComputerName 10.77.0.2 -Force -ThrottleLimit 3 -WarningAction Ignore |
  Where-Object { $_.PSTypeNames -contains "Phaul.PhaulMigrationResult" } |
  Select-Object Pid, @{ Name = "Begun"; Expression = { $_.StartTime.UtcTicks } }, @{ Name = "Ended"; Expression = { ($_.StartTime + $_.Duration).UtcTicks } }'
        $results.Pid | Sort-Object | Should -Be ($programs.Id | Sort-Object)
        # Each began before the first had ended
        ($results.Begun | Sort-Object)[-1] | Should -BeLessThan ($results.Ended | Sort-Object)[0]
        $programs | ForEach-Object { Assert-Continuity $_ }
    }

    It 'has an engine of the operator''s own do the last step' {
        $programs += $counter = Start-Program $lab a counter, 16, 10
        $folder = "/shared/engine-$($counter.Id)"
        New-Item -ItemType Directory "$($lab.Directory)$folder" | Out-Null
        $engine = Start-OnHost $lab b @"
while (-not (Test-Path $folder/ready)) { Start-Sleep -Milliseconds 20 }
`$there = Get-Content $folder/ready
Copy-Item $folder/*.img `$there
criu restore -d -D `$there -o own-restore.log
"restored `$LASTEXITCODE" | Set-Content $folder/restoring
Move-Item $folder/restoring $folder/restored
"@
        $objects = Get-FromHost $lab a @"
`$result = Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -WarningAction Ignore -DumpCopyRestore {
    param(`$Criu, `$Configuration, `$LastImages)
    `$Criu.Dump({
        param(`$Images)
        Copy-Item `$Images/*.img $folder
        Join-Path `$Configuration.RemoteWorkDirectory (Split-Path -Leaf `$Images) | Set-Content $folder/writing
        "frozen, `$([int](Test-Path /proc/$($counter.Id)))"
    })
    "dumped, `$([int](Test-Path /proc/$($counter.Id)))"
    Move-Item $folder/writing $folder/ready
    while (-not (Test-Path $folder/restored)) { Start-Sleep -Milliseconds 20 }
    Get-Content $folder/restored
}
"@
        Wait-OnHost $engine | Should -BeTrue
        $objects[0..2] | Should -Be 'frozen, 1', 'dumped, 0', 'restored 0'
        $objects[3].Decision | Should -Be 'Final'
        $objects[-1].State | Should -Be 'Completed'
        $objects[-1].DestinationPid | Should -BeNullOrEmpty
        Assert-Continuity $counter
        Test-OnHost $lab a $counter.Id | Should -BeFalse
        Test-OnHost $lab b $counter.Id | Should -BeTrue
        $there = Get-FromHost $lab b "`$result = Get-PhaulMigration $($objects[-1].MigrationId)"
        $there.State | Should -Be 'Discarded'
        $there.ProgramState | Should -Be 'Unknown'
    }

    It 'has the program run on where an engine of the operator''s own fails while it is frozen: <Name>' -ForEach @(
        @{ Name = 'a native command'; Fails = 'ls /no-such-file' }
        @{ Name = 'a cmdlet'; Fails = 'Get-Item /no-such-file' }
    ) {
        $programs += $counter = Start-Program $lab a counter, 4, 1
        $failed = Get-FromHost $lab a @"
Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -ErrorVariable failed -ErrorAction SilentlyContinue -WarningAction Ignore -DumpCopyRestore { param(`$Criu) `$Criu.Dump({ $Fails 2>`$null }) } | Out-Null
`$result = [pscustomobject]@{ Id = `$failed[-1].FullyQualifiedErrorId; State = `$failed[-1].Exception.ProgramState.ToString(); Text = `$failed[-1].ErrorDetails.Message }
"@
        $failed.Id | Should -BeLike 'EngineFailed,*'
        $failed.State | Should -Be 'RunningOnSource'
        $failed.Text | Should -Match 'runs on the source'
        Assert-Continuity $counter
        Test-OnHost $lab a $counter.Id | Should -BeTrue
        Test-OnHost $lab b $counter.Id | Should -BeFalse
    }

    It 'refuses an engine of the operator''s own as a job' {
        { Invoke-PhaulMigration 1234 b -Force -AsJob -DumpCopyRestore { } } | Should -Throw -ErrorId 'InvalidOption,*'
    }

    It 'tells the story with -Verbose' {
        $programs += $counter = Start-Program $lab a counter, 4, 1
        $output = Invoke-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -Verbose *>&1 | ForEach-Object { `$_.GetType().Name + ' ' + `$_ }"
        $output | Where-Object { $_ -match '^VerboseRecord .*(Connecting|Freezing|Committing)' } | Should -Not -BeNullOrEmpty
        Assert-Continuity $counter
    }

    It 'shows CRIU''s own lines with -Debug, and only then' {
        $programs += $counter = Start-Program $lab a counter, 4, 1
        $said = Invoke-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -Debug *>&1 | Where-Object { `$_ -is [Management.Automation.DebugRecord] } | ForEach-Object Message"
        $said -match 'Dumping finished successfully' | Should -HaveCount 1
        @($said -notlike 'criu on a: *') -notlike 'warning: *' | Should -BeNullOrEmpty
        # In the order in which CRIU said them: its clock does not go back
        $times = @($said | ForEach-Object { if ($_ -match '\((\d+\.\d{6})\)') { [double]$Matches[1] } })
        $times.Count | Should -BeGreaterThan 100
        ($times | Sort-Object) -join ' ' | Should -Be ($times -join ' ')
        Assert-Continuity $counter
        Stop-Program $lab $counter

        $programs += $counter = Start-Program $lab a counter, 4, 1
        $said = Get-FromHost $lab a "`$job = Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -AsJob; Wait-Job `$job | Out-Null; `$result = @{ State = `$job.State; Lines = `$job.ChildJobs[0].Debug.Count }"
        $said.State | Should -Be 'Completed'
        $said.Lines | Should -Be 0
    }

    It 'checks without touching anything, beside another module''s Google.Protobuf' {
        $programs += $counter = Start-Program $lab a counter, 4, 1
        $history = Get-FromHost $lab b '$result = @(Get-PhaulMigration).Count'
        $checks = Get-FromHost $lab a @"
`$name = [System.Reflection.AssemblyName]::new('Google.Protobuf, Version=99.0.0.0')
`$builder = [System.Reflection.Emit.PersistedAssemblyBuilder]::new(`$name, [object].Assembly)
`$builder.DefineDynamicModule('Google.Protobuf').DefineType('Google.Protobuf.MessageParser', 'Public').CreateType() | Out-Null
`$builder.Save('/tmp/Google.Protobuf.dll')
[System.Reflection.Assembly]::LoadFrom('/tmp/Google.Protobuf.dll') | Out-Null
`$result = Get-Process counter | Test-PhaulMigration 10.77.0.2
[AppDomain]::CurrentDomain.GetAssemblies() | Where-Object { `$_.GetName().Name -eq 'Google.Protobuf' } |
  ForEach-Object { [System.Runtime.Loader.AssemblyLoadContext]::GetLoadContext(`$_).Name + ' ' + `$_.GetName().Version } | Set-Content /shared/loaded
"@
        $loaded = Get-Content "$($lab.Shared)/loaded"
        $loaded | Should -Contain 'Default 99.0.0.0'
        $loaded.Where{ $_ -like 'Phaul 3.*' } | Should -Not -BeNullOrEmpty
        $checks.Side | Sort-Object -Unique | Should -Be 'Destination', 'Source'
        $checks.Where{ $_.Verdict -eq 'Failed' } | Should -BeNullOrEmpty
        $checks.Name | Should -Contain 'CriuVersion'
        Get-FromHost $lab a '$result = Get-Process counter | Test-PhaulMigration 10.77.0.2 -Quiet' | Should -BeTrue
        Get-FromHost $lab b '$result = @(Get-PhaulMigration).Count' | Should -Be $history
        Test-OnHost $lab a $counter.Id | Should -BeTrue
        Assert-Continuity $counter
    }

    It 'refuses a program with more capabilities than the server may give it, before anything is frozen' {
        $few = '-all,+sys_admin,+sys_ptrace,+checkpoint_restore,+setuid,+setgid,+setpcap,+kill,+dac_override,+dac_read_search,+chown,+fowner,+fsetid,+sys_chroot,+net_admin,+sys_time'
        $hardened = Start-OnHost $lab b "setpriv --bounding-set '$few' --inh-caps '-all' pwsh -NoProfile -c 'Import-Module /opt/Phaul; Start-PhaulServer -Address 10.77.0.2 -Port 7249 -Wait -Verbose 4>&1'"
        try {
            Wait-Until { $hardened.Process.HasExited -or (Select-String -Quiet Listening $hardened.Output) }
            $programs += $counter = Start-Program $lab a counter, 1, 1
            $failure = Get-FromHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Port 7249 -Force -ErrorVariable failed -ErrorAction SilentlyContinue -WarningAction Ignore; `$result = `$failed[0].FullyQualifiedErrorId + ' ' + `$failed[0].ErrorDetails.Message"
            $failure | Should -Match '^CheckFailed,.* Capabilities: .*runs on the source'
            Assert-Continuity $counter
            Test-OnHost $lab a $counter.Id | Should -BeTrue
        }
        finally {
            Stop-OnHost $hardened
        }
    }

    It 'has a stable error, with a category and advice, where <Name>' -ForEach @(
        @{ Name = 'there is no such process'; Arguments = '2147483 10.77.0.2'; Id = 'ProcessNotFound'; Category = 'ObjectNotFound' }
        @{ Name = 'nobody listens'; Arguments = '$ID 10.77.0.2 -Port 9'; Id = 'ConnectionFailed'; Category = 'ConnectionError' }
        @{ Name = 'the destination is not the one that is trusted'; Arguments = '$ID 10.77.0.2 -TrustedCertificate ("AB" * 32)'; Id = 'AuthenticationFailed'; Category = 'AuthenticationError' }
        @{ Name = 'there is no criu'; Arguments = '$ID 10.77.0.2 -CriuPath /nowhere/criu'; Id = '(CriuNotFound|CheckFailed)'; Category = '(NotInstalled|InvalidOperation)' }
    ) {
        $programs += $counter = Start-Program $lab a counter, 1, 1
        $failure = Get-FromHost $lab a @"
Invoke-PhaulMigration $($Arguments.Replace('$ID', $counter.Id)) -Force -ErrorVariable failed -ErrorAction SilentlyContinue
`$result = [pscustomobject]@{ Count = `$failed.Count; Id = `$failed[0].FullyQualifiedErrorId; Category = "`$(`$failed[0].CategoryInfo.Category)"; Action = `$failed[0].ErrorDetails.RecommendedAction }
"@
        $failure.Count | Should -Be 1
        $failure.Id | Should -Match "^$Id,"
        $failure.Category | Should -Match "^$Category$"
        $failure.Action | Should -Not -BeNullOrEmpty
        Assert-Continuity $counter
    }
}

Describe 'Servers' -Skip:([bool]$obstacle) {
    It 'shows CRIU''s own lines with -Debug in the foreground' {
        $server = Start-LabServer $lab -Options '-Debug 5>&1'
        $counter = Start-Program $lab a counter, 4, 1
        try {
            Invoke-OnHost $lab a "Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -WarningAction Ignore" | Out-Null
            Wait-Until { Select-String -Quiet 'criu on b: .*Restore finished successfully' $server.Output }
            Select-String -Quiet 'criu on b: .*Restore finished' $server.Output | Should -BeTrue
        }
        finally {
            Stop-OnHost $server
            Stop-Program $lab $counter
        }
    }

    It 'serves in the background, is found, receives, and is stopped' {
        $serving = Start-OnHost $lab b @'
$server = Start-PhaulServer -Address 10.77.0.2
$found = Get-PhaulServer
$table = $found | Format-Table | Out-String
while (-not (Test-Path /shared/stop-server)) { Start-Sleep -Milliseconds 50 }
$server | Stop-PhaulServer
[pscustomobject]@{ Port = $server.Port; Same = [object]::ReferenceEquals($found.PSObject.BaseObject, $server.PSObject.BaseObject); Type = $server.PSTypeNames[0]
  Fingerprint = $server.Fingerprint; State = "$($server.State)"; Left = @(Get-PhaulServer).Count; Table = $table } | Export-Clixml /shared/server.xml
'@
        $counter = Start-Program $lab a counter, 4, 1
        try {
            Wait-Until { (Invoke-OnHost $lab a 'Test-Connection 10.77.0.2 -TcpPort 7248 -Quiet') -eq 'True' }
            $result = Get-FromHost $lab a "`$result = Invoke-PhaulMigration $($counter.Id) 10.77.0.2 -Force -WarningAction Ignore | Select-Object -Last 1"
            $result.State | Should -Be 'Completed'
            Assert-Continuity $counter
        }
        finally {
            New-Item "$($lab.Shared)/stop-server" | Out-Null
            Wait-OnHost $serving | Should -BeTrue
            Stop-Program $lab $counter
        }
        $server = Import-Clixml "$($lab.Shared)/server.xml"
        $server.Port | Should -Be 7248
        $server.Same | Should -BeTrue
        $server.Type | Should -Be 'PhaulServer'
        $server.Fingerprint | Should -Be $lab.Fingerprint.b
        $server.State | Should -Be 'Stopped'
        $server.Left | Should -Be 0
        $server.Table | Should -Match 'Listening\s+10\.77\.0\.2\s+7248'
    }

    It 'says in the foreground whom it did not let in' {
        $server = Start-LabServer $lab
        $counter = Start-Program $lab a counter, 1, 1
        try {
            Invoke-OnHost $lab a "New-PhaulCertificate /tmp/other | Out-Null; Test-PhaulMigration $($counter.Id) 10.77.0.2 -Certificate /tmp/other" | Out-Null
            Wait-Until { Select-String -Quiet 'WARNING: .*fingerprint' $server.Output }
        }
        finally {
            Stop-OnHost $server
            Stop-Program $lab $counter
        }
    }

    It 'ends on SIGTERM when it serves in the foreground' {
        $server = Start-LabServer $lab
        Send-Signal $server TERM
        Wait-OnHost $server | Should -BeTrue
        $server.Process.ExitCode | Should -Be 0
        Get-Content $server.Output -Raw | Should -Match 'Stopping'
    }

    It 'is stopped when the module is removed, and with the session' {
        $output = Invoke-OnHost $lab b @'
Start-PhaulServer -UnixSocketPath /run/phaul-test.sock | Out-Null
"listens $(Test-Path /run/phaul-test.sock)"
Remove-Module Phaul
$socket = [System.Net.Sockets.Socket]::new('Unix', 'Stream', 'Unspecified')
try { $socket.Connect([System.Net.Sockets.UnixDomainSocketEndPoint]::new('/run/phaul-test.sock')); 'still there' } catch { 'gone' }
'@
        $output | Should -Contain 'listens True'
        $output | Should -Contain 'gone'
    }

    It 'is refused where it would trust nobody' {
        $output = Invoke-OnHost $lab b 'Set-Content /etc/phaul/nobody "# nobody"; try { Start-PhaulServer -Address 10.77.0.2 -TrustedCertificate /etc/phaul/nobody } catch { "refused " + $_.FullyQualifiedErrorId + " " + @(Get-PhaulServer).Count }'
        $output | Should -BeLike 'refused InvalidRequest,*StartPhaulServerCommand 0'
    }
}

Describe 'Certificates' {
    It 'makes a key and a certificate, once, and others only by force' {
        $made = New-PhaulCertificate TestDrive:/own -Name host-a -Validity 30d
        $made.Subject | Should -Be 'CN=host-a'
        $made.Fingerprint | Should -Be ([Convert]::ToHexString([Security.Cryptography.SHA256]::HashData([Security.Cryptography.X509Certificates.X509Certificate2]::new($made.CertificatePath).RawData)))
        (Get-Item $made.KeyPath).UnixMode | Should -Be '-rw-------'
        ($made | Format-Table | Out-String -Width 160) | Should -Match $made.Fingerprint

        { New-PhaulCertificate TestDrive:/own } | Should -Throw -ErrorId 'InvalidRequest,Phaul.PowerShell.Cmdlets.NewPhaulCertificateCommand'
        New-PhaulCertificate TestDrive:/own -Force -WhatIf | Should -BeNullOrEmpty
        (New-PhaulCertificate TestDrive:/own -Force).Fingerprint | Should -Not -Be $made.Fingerprint
    }
}
