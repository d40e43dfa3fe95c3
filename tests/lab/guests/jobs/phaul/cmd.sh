# shellcheck shell=bash
# phaul: migrations with `phaul migrate` from src to dst, where `phaul serve` runs; each is a file in cases/, run on src.
# Variables: CASES, which of them (all). Prints "ok NAME" or "FAILED NAME" for each; what each printed is in /lab/out/NAME.
set -euo pipefail

# Without huge pages what is dirty follows from what the program wrote alone
echo never > /sys/kernel/mm/transparent_hugepage/enabled
phaul new-certificate | awk '$1 == "fingerprint" { print $2 }' > fingerprint
meet certified
there 'cat /lab/fingerprint' < /dev/null > peer

if [[ $LAB_HOST == dst ]]; then
  phaul serve --trust /lab/peer --peer-timeout 1m > out/serve.log 2>&1 &
  server=$!
  await_line out/serve.log '^listening'
  meet serving
  meet end 1800
  kill "$server"
  wait "$server"
  exit
fi

meet serving
failed=0
for case in ${CASES:-$(ls /opt/job/cases)}; do
  began=$EPOCHREALTIME
  if bash /opt/job/run "$case" > "out/$case" 2>&1; then verdict=ok; else verdict=FAILED failed=1; fi
  echo "$verdict $case ($(((${EPOCHREALTIME/./} - ${began/./}) / 1000)) ms)"
  [[ $verdict == ok && -z ${SHOW:-} ]] || sed 's/^/    /' "out/$case"
done
meet end
exit "$failed"
