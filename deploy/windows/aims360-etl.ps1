# aims360-etl.ps1 WORDS...: aims360-etl with those words and the settings of the file `env` beside this script, one
# NAME='value' a line. What it says is kept in aims360-etl.log; its exit code is the task's.
$ErrorActionPreference = 'Stop'
$here = Split-Path -Parent $MyInvocation.MyCommand.Path
foreach ($line in Get-Content -LiteralPath (Join-Path $here 'env') -Encoding UTF8) {
    if ($line -match "^\s*([A-Z][A-Z0-9_]*)=(.*)$") {
        [Environment]::SetEnvironmentVariable($Matches[1], $Matches[2].Trim().Trim("'", '"'), 'Process')
    }
}
$program = Join-Path $here 'venv\Scripts\aims360-etl.exe'
$log = Join-Path $here 'aims360-etl.log'
# Through cmd: PowerShell 5 would take each line on stderr for an error of its own.
& cmd.exe /c "`"$program`" $args >> `"$log`" 2>&1"
exit $LASTEXITCODE
