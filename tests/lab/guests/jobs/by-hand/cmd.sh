# shellcheck shell=bash disable=SC2154  # the guests' functions come from ../../functions
# by-hand: a pre-copy migration with criu's own commands: pre-dumps by P.Haul's rules, then the final dump, over page
# servers on dst's TCP port; the other images and the program's log copied; restored on dst. What Phaul is compared with.
# Variables: RATE, the MiB/s that the program rewrites (4), of SIZE MiB (128), all over them; THP, transparent huge pages
# (the kernel's default, always: then each page written makes 2 MiB dirty). Prints JSON, a line an iteration and one for
# the whole, also into /lab/out/by-hand.jsonl.
set -euo pipefail
rate=${RATE:-4} size=${SIZE:-128} images=/lab/images log=/lab/counter.log port=9100

# P.Haul's rules: go on until there were this many iterations, or this few pages, or this many more than the last time
max_iterations=8 min_pages=64 max_growth=32

if [[ $LAB_HOST == dst ]]; then
  meet end
  exit
fi

# shellcheck disable=SC2059  # it is given the format
print() { printf "$@" | tee -a out/by-hand.jsonl; }
milliseconds() { echo "$((($(date +%s%N) - $1) / 1000000))"; }
sent() { cat /sys/class/net/eth0/statistics/tx_bytes; }

# dump VERB NAME PARENT: one iteration; sets what criu says of it
dump() {
  local parent=() began sent_before
  [[ -z $3 ]] || parent=(--prev-images-dir "../$3")
  began=$(date +%s%N) sent_before=$(sent)
  mkdir -p "$images/$2"
  there "mkdir -p $images/$2 && criu page-server -d -D $images/$2 ${parent[*]} --port $port -o page-server.log" < /dev/null
  criu "$1" --track-mem -t "$pid" -D "$images/$2" "${parent[@]}" --page-server --address "$LAB_PEER" --port "$port" \
    --display-stats -o "$1.log" > "$images/$2/stats.txt" || { tail -n 20 "$images/$2/$1.log"; exit 1; }
  took=$(milliseconds "$began") bytes=$(($(sent) - sent_before))
  # of a line "Memory pages written: 4100 (0x1004)" the number
  local number='s/.*: \([0-9]*\).*/\1/p'
  scanned=$(sed -n "/pages scanned/ $number" "$images/$2/stats.txt")
  skipped=$(sed -n "/pages skipped/ $number" "$images/$2/stats.txt")
  written=$(sed -n "/pages written/ $number" "$images/$2/stats.txt")
  frozen=$(sed -n "/Frozen time/ $number" "$images/$2/stats.txt")
}

# NAME DECISION
report() {
  print '{"iteration": "%s", "scanned": %d, "skipped": %d, "written": %d, "frozen_ms": %s, "bytes": %d, "took_ms": %d, "decision": "%s"}\n' \
    "$1" "$scanned" "$skipped" "$written" "$((frozen / 1000)).$((frozen / 100 % 10))" "$bytes" "$took" "$2"
}

[[ -z ${THP:-} ]] || echo "$THP" > /sys/kernel/mm/transparent_hugepage/enabled
run_detached /opt/programs/counter --log "$log" "$size" "$rate"
pid=$detached
await_line "$log" '^100 '

started=$(date +%s%N) total_before=$(sent) last='' previous=''
for ((iteration = 1; ; iteration++)); do
  dump pre-dump "$iteration" "$previous"
  previous=$iteration
  if ((iteration == max_iterations)); then decision="hand over: $max_iterations iterations"
  elif ((written < min_pages)); then decision="hand over: under $min_pages pages"
  elif [[ -n $last ]] && ((written - last >= max_growth)); then decision="hand over: grew by $((written - last)) pages"
  else decision='go on'
  fi
  report "$iteration" "$decision"
  last=$written
  [[ $decision == 'go on' ]] || break
done

frozen_at=$(date +%s%N)
dump dump final "$previous"
tar -C / --exclude=parent -cf - "${images#/}/final" "${log#/}" | there tar -C / -xf -
there "criu restore -d -D $images/final -o restore.log" < /dev/null ||
  { there "tail -n 20 $images/final/restore.log" < /dev/null; exit 1; }
hand_over=$(milliseconds "$frozen_at") total=$(milliseconds "$started") total_bytes=$(($(sent) - total_before))
report final restored

# It went on there, with the memory it had
at=$(there "tail -n 1 $log" < /dev/null)
there "await_line $log '^$((${at%% *} + 200)) ' && kill -USR1 $pid && await_line $log ^verify" < /dev/null
there "cat $log" < /dev/null > out/counter.log
read -r ahead _ < <(lab-guest compare-clock "$LAB_PEER" 7000)
verdict=$(check-log out/counter.log) || { echo "the program lost something: $verdict"; exit 1; }
[[ $verdict == *'last_verify ok' ]]
gap=${verdict#*gap_ms } gap=${gap%% *}
print '{"size_mib": %d, "rate_mib_s": %d, "iterations": %d, "downtime_ms": %s, "hand_over_ms": %d, "total_ms": %d, "bytes": %d, "clocks_apart_us": %d}\n' \
  "$size" "$rate" "$iteration" "$gap" "$hand_over" "$total" "$total_bytes" "$((ahead / 1000))"
echo "$verdict"
meet end
