#!/bin/bash
# build.sh [TASK] [OPTION]...: builds, shows and proves Phaul on a machine with or without pwsh. The tasks have the same
# names as build.ps1's. Needs the .NET SDK; what comes from Debian is installed when a task needs it and it is missing.
set -euo pipefail

root=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
out=$root/out
configuration=Release

# Nothing may outlive the task: no build servers; and what dotnet prints is counted below
export MSBUILDDISABLENODEREUSE=1 UseSharedCompilation=false DOTNET_CLI_USE_MSBUILD_SERVER=0
export DOTNET_CLI_UI_LANGUAGE=en DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1
# The SDK of a machine without libicu does not start otherwise; nothing here speaks a language
ldconfig -p 2> /dev/null | grep -q libicuuc || export DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1

usage() {
  cat <<'USAGE'
build.sh [build]               build everything; the command line arrives in out/cli, the module in out/Phaul
build.sh test [--no-guests] [--filter EXPRESSION]
                               all tests; as root with the lab, and in guests whose kernel tracks dirty memory (some minutes;
                               --no-guests leaves them out). --filter takes what `dotnet test --filter` takes, and leaves out
                               everything that is not a .NET test
build.sh chaos [--seed S] [--rounds N]
                               everything fails at random moments of N (200) migrations; prints a table (root)
build.sh demo                  move a running program between two hosts on this machine, and prove it (root)
build.sh bench [OPTION]...     Phaul and hand-driven CRIU side by side (root); bench/README.md has the options
build.sh bench relay [MIB RUNS]  the page path alone, beside a plain copy between the same sockets
build.sh format [--check]      format the sources, or say what is not formatted
build.sh clean                 remove what was built
USAGE
}

die() { echo "build.sh: $*" >&2; exit 1; }
left_out() { echo "left out: $*"; }

need_dotnet() { command -v dotnet > /dev/null || die "the .NET SDK is needed: no dotnet on PATH"; }
need_root() { ((EUID == 0)) || die "$1 needs root: it makes two hosts out of namespaces"; }

# ---- build ----------------------------------------------------------------------------------------------------------

build() {
  need_dotnet
  dotnet build "$root/Phaul.sln" -c "$configuration" -v quiet -clp:NoSummary
  build_cli
  # As build.ps1 does it; pwsh is not needed for that
  dotnet build "$root/src/Phaul.PowerShell" -t:Module -c "$configuration" -v quiet -clp:NoSummary -p:ModuleDirectory="$out/Phaul/"
  echo "built: out/cli/phaul, and the module in out/Phaul"
}

# The command line alone, with the engine. Compiled ahead of time (ReadyToRun) where the compiler can be
# had: what is compiled while a program is frozen adds to its downtime.
build_cli() {
  need_dotnet
  mkdir -p "$out"
  rm -rf "$out/cli"
  if [[ $(uname -m) = x86_64 ]] && dotnet publish "$root/src/Phaul.Cli" -c "$configuration" -v quiet -clp:NoSummary -o "$out/cli" \
    -r linux-x64 --self-contained false -p:PublishReadyToRun=true > "$out/readytorun.log" 2>&1; then
    return
  fi
  left_out "ahead-of-time compilation of the command line (its compiler is not to be had; out/readytorun.log): downtimes are longer"
  rm -rf "$out/cli"
  dotnet publish "$root/src/Phaul.Cli" -c "$configuration" -v quiet -clp:NoSummary -o "$out/cli"
}

# Finds pwsh on PATH, or gets the one that .config/dotnet-tools.json names; fails if there is none. It is installed into a
# directory of its own and not restored as a tool of this directory: the lab's hosts see it in one piece.
find_pwsh() {
  local version
  command -v pwsh > /dev/null && return
  [[ -z ${pwsh_sought-} ]] || return 1
  pwsh_sought=yes
  version=$(tr -d ' \n' < "$root/.config/dotnet-tools.json" | sed -nE 's/.*"powershell":\{"version":"([^"]+)".*/\1/p')
  if [[ ! -x $out/tools/pwsh ]]; then
    timeout 120 dotnet tool install powershell --version "$version" --allow-roll-forward --tool-path "$out/tools" > /dev/null 2>&1 || return 1
  fi
  "$out/tools/pwsh" -NoProfile -NonInteractive -Command exit > /dev/null 2>&1 || return 1
  PATH=$PATH:$out/tools
}

# ---- test -----------------------------------------------------------------------------------------------------------

passed=0 failed=0 skipped=0
failures=()

# add PASSED FAILED SKIPPED
add() {
  passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# counted WHAT PATTERN COMMAND...: runs COMMAND and adds up the numbers that PATTERN (sed -E, three groups: passed, failed,
# skipped) finds in its output. A command that fails without having counted a failure counts as one.
counted() {
  local what=$1 pattern=$2 log status=0 counts p f s before=$failed
  shift 2
  echo "--- $what"
  log=$(mktemp)
  "$@" 2>&1 | tee "$log" || status=$?
  counts=$(sed -nE "$pattern" "$log")
  # What failed is said again at the end, where it is found, with the first lines of dotnet's reason; colours hide it from a pattern
  while read -r; do
    failures+=("$what: $REPLY")
  done < <(sed -E 's/\x1b\[[0-9;]*m//g' "$log" | awk '
    function say() { if (failure != "") print substr(failure, 1, 500); failure = "" }
    /^ +Failed [^ ]+\.|^ +\[-\] |^FAIL/ { say(); failure = $0; reason = 0; next }
    /^ +Error Message:/ { reason = 5; next }
    /^ +Stack Trace:/ { reason = 0 }
    reason-- > 0 && NF { gsub(/^ +/, ""); failure = failure " | " $0 }
    END { say() }')
  rm -f "$log"
  while read -r p f s; do
    [[ -z $p ]] || add "$p" "$f" "$s"
  done <<< "$counts"
  if ((status != 0 && failed == before)); then
    echo "$what: ended with status $status"
    add 0 1 0
  fi
}

run_tests() {
  local filter='' guests=yes project
  while (($#)); do
    case $1 in
      --filter) (($# > 1)) || die "--filter needs an expression"; filter=$2; shift 2 ;;
      --no-guests) guests=no; shift ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  build
  if ((EUID == 0)); then
    # now, and not within the first test that needs it
    "$root/tests/lab/lab" prepare
  fi
  mkdir -p "$out"
  rm -f "$out/fault-matrix.txt"
  export PHAUL_FAULT_REPORT=$out/fault-matrix.txt
  for project in "$root"/tests/*Tests/*.csproj; do
    counted "$(basename "$project" .csproj)" \
      's/^(Passed|Failed|Skipped)! +- Failed: +([0-9]+), Passed: +([0-9]+), Skipped: +([0-9]+),.*/\3 \2 \4/p' \
      dotnet test "$project" -c "$configuration" --no-build ${filter:+--filter "$filter"}
  done
  unset PHAUL_FAULT_REPORT
  [[ ! -f $out/fault-matrix.txt ]] || cat "$out/fault-matrix.txt"
  if [[ -n $filter ]]; then
    left_out "everything that is not a .NET test: --filter"
  else
    test_lab
    test_module
    test_guests "$guests"
  fi
  ((failed == 0)) || printf 'failed: %s\n' "${failures[@]}"
  echo "$passed passed, $failed failed, $skipped skipped"
  ((failed == 0 && passed > 0))
}

test_lab() {
  ((EUID == 0)) || { left_out "the lab's self-test: not root"; return 0; }
  counted 'lab' 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2 0/p' "$root/tests/lab/selftest"
}

test_module() {
  [[ -d $root/tests/pester ]] || return 0
  find_pwsh || { left_out "tests of the module in pwsh: no pwsh on PATH"; return 0; }
  # shellcheck disable=SC2016  # PowerShell's variables
  pwsh -NoProfile -NonInteractive -Command 'exit !(Get-Module -ListAvailable Pester | Where-Object Version -ge "5.0")' ||
    { left_out "tests of the module in pwsh: no Pester 5"; return 0; }
  counted 'module' 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' \
    pwsh -NoProfile -NonInteractive -File "$root/build.ps1" Test -NoBuild
}

# Hosts with a kernel of their own, for what this machine's kernel cannot do
test_guests() {
  [[ $1 == yes ]] || { left_out "the tests in guests, pre-copy among them: --no-guests"; return 0; }
  ((EUID == 0)) || { left_out "the tests in guests, pre-copy among them: not root"; return 0; }
  local log
  log=$(mktemp)
  "$root/tests/lab/guests/guests" prepare > "$log" 2>&1 ||
    { left_out "the tests in guests, pre-copy among them: no guest can be made here ($(tail -n 1 "$log"))"; rm -f "$log"; return 0; }
  rm -f "$log"
  counted 'guests' 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 0\4/p' "$root/tests/lab/guests/selftest"
  counted 'pre-copy, in guests' 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2 0/p' "$root/tests/lab/guests/test"
}

# ---- the other tasks ------------------------------------------------------------------------------------------------

# Follows the report while the tests run: dotnet test shows their output only at the end
reported() { # REPORT COMMAND...
  local report=$1 tail_pid status=0
  shift
  : > "$report"
  tail -n +1 -f "$report" &
  tail_pid=$!
  PHAUL_FAULT_REPORT=$report "$@" > "$report.log" 2>&1 || status=$?
  sleep 0.5
  kill "$tail_pid"
  wait "$tail_pid" 2> /dev/null || true
  ((status == 0)) || tail -n 20 "$report.log"
  return "$status"
}

chaos() {
  local seed=$((RANDOM)) rounds=200
  while (($#)); do
    case $1 in
      --seed) (($# > 1)) || die "--seed needs a number"; seed=$2; shift 2 ;;
      --rounds) (($# > 1)) || die "--rounds needs a number"; rounds=$2; shift 2 ;;
      *) usage >&2; exit 2 ;;
    esac
  done
  need_root "chaos"
  need_dotnet
  dotnet build "$root/tests/Phaul.Core.Tests" -c "$configuration" -v quiet -clp:NoSummary
  dotnet build "$root/src/Phaul.Cli" -c "$configuration" -v quiet -clp:NoSummary
  "$root/tests/lab/lab" prepare
  mkdir -p "$out"
  PHAUL_CHAOS_SEED=$seed PHAUL_CHAOS_ROUNDS=$rounds reported "$out/chaos.txt" \
    dotnet test "$root/tests/Phaul.Core.Tests" -c "$configuration" --no-build --filter FullyQualifiedName~FaultMatrixTests.RandomMoments
}

demo() {
  need_root "the demo"
  build_cli
  if find_pwsh; then
    dotnet build "$root/src/Phaul.PowerShell" -t:Module -c "$configuration" -v quiet -clp:NoSummary -p:ModuleDirectory="$out/Phaul/"
    "$root/tests/lab/demo" "$out/cli" "$out/Phaul"
  else
    left_out "the cmdlets: no pwsh on PATH; the demo uses the command line"
    "$root/tests/lab/demo" "$out/cli"
  fi
}

bench() {
  if [[ ${1-} == relay ]]; then
    need_dotnet
    dotnet run --project "$root/bench/Relay" -c "$configuration" -v quiet -- "${@:2}"
    return
  fi
  need_root "the benchmark"
  build_cli
  "$root/bench/run" --cli "$out/cli" "$@"
}

format() {
  need_dotnet
  case ${1-} in
    '') dotnet format "$root/Phaul.sln" ;;
    --check) dotnet format "$root/Phaul.sln" --verify-no-changes ;;
    *) usage >&2; exit 2 ;;
  esac
}

clean() {
  rm -rf "$out"
  find "$root/src" "$root/tests" -type d \( -name bin -o -name obj -o -name TestResults \) -prune -exec rm -rf {} +
}

task=${1:-build}
(($# == 0)) || shift
case $task in
  build | clean | demo) (($# == 0)) || { usage >&2; exit 2; }; "$task" ;;
  bench | format | chaos) "$task" "$@" ;;
  test) run_tests "$@" ;;
  -h | --help | help) usage ;;
  *) usage >&2; exit 2 ;;
esac
