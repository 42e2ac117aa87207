# Puts the model beside this file into the model cache of a Foundry Local, as the next version of its name:
#     powershell -ExecutionPolicy Bypass -File install.ps1 [CACHE]
# Every file is held against SHA256SUMS. Nothing that is in the cache is changed, and no runtime sees half a model.
param([string]$Cache = '')
$ErrorActionPreference = 'Stop'
$name = '@@name'; $pattern = '@@pattern'; $packed = '@@version'
$here = Split-Path -Parent $MyInvocation.MyCommand.Path
function Fail([string]$why) { [Console]::Error.WriteLine("error: $why"); exit 1 }
$rows = @(Get-Content -LiteralPath (Join-Path $here 'SHA256SUMS') -Encoding UTF8 |
    ForEach-Object { [pscustomobject]@{ Sum = $_.Substring(0, 64); Name = $_.Substring(66) } })
function Test-Rows([string]$folder, $wanted) {
    foreach ($row in $wanted) {
        $file = Join-Path $folder $row.Name
        if (-not (Test-Path -LiteralPath $file -PathType Leaf)) { return "$($row.Name) is missing" }
        if ((Get-FileHash -LiteralPath $file -Algorithm SHA256).Hash -ne $row.Sum) { return "$($row.Name) has other content" }
    }
}

if (-not $Cache -and (Get-Command foundry -ErrorAction SilentlyContinue)) {
    $said = (foundry cache location | Out-String)
    if ($said -match '([A-Za-z]:\\[^\r\n"]*[^\s."])') { $Cache = $Matches[1] }
}
if (-not $Cache -and (Test-Path -LiteralPath "$HOME\.foundry\cache\models")) { $Cache = "$HOME\.foundry\cache\models" }
if (-not $Cache) { Fail 'no cache of a Foundry Local was found. Name its folder: install.ps1 CACHE' }
if ($why = Test-Rows $here $rows) { Fail "this is not what was packed, fetch it again: $why" }

$place = Join-Path $Cache 'installed'
New-Item -ItemType Directory -Force -Path $place | Out-Null
$place = (Get-Item -LiteralPath $place).FullName
if ((Get-Item -LiteralPath $place).Attributes -band [IO.FileAttributes]::ReparsePoint) { Fail "$place is a link. Name another cache" }
$copied = @($rows | Where-Object { $_.Name -notlike 'install.*' })
$same = @($copied | Where-Object { $_.Name -notin 'README.md', 'inference_model.json' })
$digest = (Get-FileHash -LiteralPath (Join-Path $here 'SHA256SUMS')).Hash
foreach ($old in @(Get-ChildItem -LiteralPath $place -Directory -Filter "$name-*")) {
    $pending = Join-Path $old.FullName 'download.tmp'; $sums = Join-Path $old.FullName 'SHA256SUMS'
    if (Test-Path -LiteralPath $pending) {  # of an installation that runs, or that was killed
        $what, $id = (Get-Content -LiteralPath $pending -TotalCount 1) -split ' '
        if ($what -eq 'install.ps1' -and -not (Get-Process -Id $id -ErrorAction SilentlyContinue)) { Remove-Item -Recurse -Force -LiteralPath $old.FullName }
    } elseif ((Test-Path -LiteralPath $sums) -and (Get-FileHash -LiteralPath $sums).Hash -eq $digest) {
        if ($why = Test-Rows $old.FullName $same) { Fail "$($old.FullName) is this model, but $why. Remove that folder, and install again" }
        "${name}:$(($old.Name -split '-')[-1]) is there already, in $($old.FullName)"; exit 0
    }
}

# The next number: after every one in a model's own file, and in the list of those that were registered.
$last = 0
$told = @(Get-ChildItem -LiteralPath $Cache -Recurse -File -Filter 'inference_model.json' -ErrorAction SilentlyContinue)
$told += @(Get-Item -LiteralPath (Join-Path $Cache 'foundry.local.modelinfo.json') -ErrorAction SilentlyContinue)
foreach ($file in $told) {
    foreach ($found in [regex]::Matches((Get-Content -LiteralPath $file.FullName -Raw -ErrorAction SilentlyContinue), "(?i)`"${pattern}:(\d{1,9})`"")) {
        $last = [Math]::Max($last, [int]$found.Groups[1].Value)
    }
}
do {
    $last += 1
    $target = Join-Path $place "$name-$last"
    $free = -not (Test-Path -LiteralPath $target)
    try { if ($free) { New-Item -ItemType Directory -Path $target | Out-Null } }
    catch { if (Test-Path -LiteralPath $target) { $free = $false } else { Fail "$place can't be written to" } }
} until ($free)

$done = $false
try {
    Set-Content -LiteralPath (Join-Path $target 'download.tmp') -Value "install.ps1 $PID" -Encoding ASCII
    foreach ($row in $copied) {
        $file = Join-Path $target $row.Name
        New-Item -ItemType Directory -Force -Path (Split-Path -Parent $file) | Out-Null
        Copy-Item -LiteralPath (Join-Path $here $row.Name) -Destination $file
    }
    if ($why = Test-Rows $target $copied) { Fail "the copy is not what was packed: $why" }
    if ("$last" -ne $packed) {
        foreach ($file in 'README.md', 'inference_model.json') {
            $text = [IO.File]::ReadAllText((Join-Path $here $file)).Replace("${name}:$packed", "${name}:$last")
            [IO.File]::WriteAllText((Join-Path $target $file), $text)
        }
    }
    Copy-Item -LiteralPath (Join-Path $here 'SHA256SUMS') -Destination $target
    Remove-Item -LiteralPath (Join-Path $target 'download.tmp')
    $done = $true
} finally {
    if (-not $done) { Remove-Item -Recurse -Force -LiteralPath $target }
}
"${name}:$last is in $target"
'A Foundry Local that scans its cache lists it. SDK 2.1 and newer want it registered once: README.md has the program.'
