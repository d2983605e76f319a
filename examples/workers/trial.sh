#!/usr/bin/env bash
# Kills, reloads and restarts workers under load, and counts failures and leaks.
#
#   examples/workers/trial.sh             about five minutes; needs wrk and curl
#   KILLS=5 RELOADS=10 ROUNDS=3 examples/workers/trial.sh      a short run
set -euo pipefail
cd "$(dirname "$0")/../.."

KILLS=${KILLS:-20} RELOADS=${RELOADS:-100} ROUNDS=${ROUNDS:-50}
CONNECTIONS=${CONNECTIONS:-2000}
addr=127.0.0.1:${PORT:-7850}
cargo build --release --example workers
program=target/release/examples/workers
folder=$(mktemp -d)
ulimit -n "$(ulimit -Hn)"

parent=
load=
finish() {
  [ -z "$load" ] || kill "$load" 2>/dev/null || true
  [ -z "$parent" ] || kill -KILL "$parent" 2>/dev/null || true
  rm -rf "$folder"
}
trap finish EXIT

start() { # workers
  WORKERS=$1 FIGURES=$folder/figures "$program" "$addr" >"$folder/out" 2>"$folder/err" &
  parent=$!
  until curl -sf "http://$addr/readyz" >/dev/null; do sleep 0.02; done
}
stop() {
  kill -TERM "$parent"
  wait "$parent"
  parent=
}
workers() { cat "/proc/$parent/task/$parent/children"; }
count() { workers | wc -w; }
sockets() { find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | wc -l; }
load() { # connections, seconds
  wrk -t1 -c "$1" -d "$2" --latency "http://$addr/" >"$folder/wrk" &
  load=$!
}
unload() {
  kill -INT "$load" # prints the results so far
  wait "$load" || true
  summary
}
summary() { grep -E 'requests in|Socket errors|Non-2xx|99%' "$folder/wrk" | sed 's/^ */  /'; }

echo "== kill -9 one of 4 workers per second, $CONNECTIONS connections, $KILLS times"
start 4
base=$(sockets "$(workers | cut -d' ' -f1)")
load "$CONNECTIONS" 3600s
sleep 2
lost=0 longest=0
for _ in $(seq "$KILLS"); do
  victim=$(workers | tr ' ' '\n' | grep . | shuf -n1)
  before=" $(workers) "
  open=$(($(sockets "$victim") - base))
  lost=$((lost + (open > 0 ? open : 0)))
  begin=$(date +%s%N)
  kill -KILL "$victim"
  # Recovered: there are 4 workers, and the new one has its listener.
  while :; do
    new=
    for worker in $(workers); do [[ $before == *" $worker "* ]] || new=$worker; done
    [ -n "$new" ] && [ "$(count)" = 4 ] && [ "$(sockets "$new")" -ge "$base" ] && break
    sleep 0.005
  done
  took=$((($(date +%s%N) - begin) / 1000000))
  longest=$((took > longest ? took : longest))
  sleep 1
done
unload
echo "  connections of the killed workers: $lost; recovery took $longest ms at most"
stop

echo "== $RELOADS reloads by SIGHUP, 200 connections"
start 2
load 200 3600s
for n in $(seq "$RELOADS"); do
  kill -HUP "$parent"
  until [ "$(grep -c 'are replaced' "$folder/err")" -ge "$n" ]; do sleep 0.01; done
done
sleep 0.5
unload
echo "  reloads: $(grep -c 'are replaced' "$folder/err"); no socket errors are expected above"
stop

echo "== $((ROUNDS * 20)) restarts: 10 workers, killed and reloaded $ROUNDS times each"
start 10
round() {
  for worker in $(workers); do kill -KILL "$worker"; done
  sleep 0.3
  until [ "$(count)" = 10 ]; do sleep 0.02; done
  local replaced=$(($(grep -c 'are replaced' "$folder/err") + 1))
  sleep 1.1
  kill -HUP "$parent"
  until [ "$(grep -c 'are replaced' "$folder/err")" -ge "$replaced" ]; do sleep 0.02; done
  until [ "$(count)" = 10 ]; do sleep 0.02; done
  sleep 1.1
}
state() {
  local descriptors memory zombies
  descriptors=$(find "/proc/$parent/fd" -type l | wc -l)
  memory=$(awk '/VmRSS/ {print $2}' "/proc/$parent/status")
  zombies=$(ps --ppid "$parent" -o stat= | grep -c Z || true)
  echo "  $1: $descriptors descriptors, $memory KiB, $zombies zombies, $(count) workers"
}
round
state before
for _ in $(seq "$ROUNDS"); do round; done
state after
grep -E 'giving up|not replaced' "$folder/err" || true
stop
