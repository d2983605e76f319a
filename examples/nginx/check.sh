#!/usr/bin/env bash
# Builds the module for the nginx that is installed, starts that nginx on loopback, and checks its answers.
# With `bench` as the argument, it measures a task per request beside `return 200`, with wrk.
#
#   apt-get install nginx nginx-dev wrk
set -euo pipefail
cd "$(dirname "$0")/../.."

source=/usr/share/nginx/src
if ! command -v nginx >/dev/null || [ ! -e $source/configure ]; then
  echo 'SKIPPED: nginx and nginx-dev are not installed'
  exit 0
fi
profile=(--profile dev)
[ "${1-}" != bench ] || profile=(--release)
cargo build "${profile[@]}" -p windlass-nginx
built=$PWD/target/debug
[ "${1-}" != bench ] || built=$PWD/target/release

# The build of nginx's own, for one module.
build=$PWD/target/nginx
mkdir -p "$build"
[ -e "$build/configure" ] || cp -r $source/. "$build"
export WINDLASS_LIBRARY=$built/libwindlass_nginx.a
module=$PWD/examples/nginx/module
(
  cd "$build"
  . ./conf_flags
  ./configure "${NGX_CONF_FLAGS[@]}" --add-dynamic-module="$module" >configure.log
  rm -f objs/ngx_http_windlass_module.so
  make -f objs/Makefile objs/ngx_http_windlass_module.so >make.log
)

work=$(mktemp -d)
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
echo_port=$(free_port)
cat >"$work/nginx.conf" <<CONF
load_module $build/objs/ngx_http_windlass_module.so;
worker_processes 1;
daemon off;
pid $work/pid;
error_log $work/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $work; proxy_temp_path $work; fastcgi_temp_path $work; uwsgi_temp_path $work;
  scgi_temp_path $work;
  keepalive_requests 1000000;
  server {
    listen 127.0.0.1:$port;
    location /plain { return 200 "hauled\n"; }
    location /task { windlass; }
    location /status { stub_status; }
  }
}
CONF
chmod 755 "$work"
nginx -e "$work/error.log" -c "$work/nginx.conf" &
nginx=$!
cargo build --example echo
target/debug/examples/echo "127.0.0.1:$echo_port" >/dev/null &
echo=$!
trap 'kill $nginx $echo 2>/dev/null || true; wait; rm -rf "$work"' EXIT
url=http://127.0.0.1:$port
curl -sf --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null "$url/plain"

expect() {
  local answer
  answer=$(curl -s --max-time 20 -w '%{http_code}' "$url/$1")
  if [ "$answer" != "$2" ]; then
    echo "FAILED: $1 answered $answer instead of $2" >&2
    cat "$work/error.log" >&2
    exit 1
  fi
  echo "ok: $1"
}
expect task $'hauled\n200'
expect 'task?ms=20' $'hauled\n200'
expect "task?port=$echo_port" $'ahoy\n200'
expect 'task?port=1' "can't connect to 127.0.0.1:1: Connection refused (os error 111)502"
expect 'task?panic' 'a rope broke500'
expect task $'hauled\n200'

worker=$(pgrep -P $nginx)
[ "$(ls /proc/$worker/task | wc -l)" = 1 ] || { echo 'FAILED: the worker has threads' >&2; exit 1; }
echo 'ok: the worker has one thread'

# Many requests wait at the same time, and clients go.
before=$(ls /proc/$worker/fd | wc -l)
seq 100 | xargs -P 50 -I{} curl -s --max-time 20 -o /dev/null "$url/task?ms=200"
seq 20 | xargs -P 20 -I{} curl -s --max-time 0.2 -o /dev/null "$url/task?ms=3600000" || true
for _ in $(seq 100); do
  [ "$(ls /proc/$worker/fd | wc -l)" != "$before" ] || break
  sleep 0.1
done
[ "$(ls /proc/$worker/fd | wc -l)" = "$before" ] || { echo 'FAILED: descriptors leak' >&2; exit 1; }
echo 'ok: requests of clients that go are dropped'

if [ "${1-}" = bench ]; then
  measure() {
    local before after
    before=$(awk '{ print $14 + $15 }' /proc/$worker/stat)
    wrk -t1 -c"$1" -d"${SECONDS_EACH:-3}" --latency "$url/$2" >"$work/wrk"
    after=$(awk '{ print $14 + $15 }' /proc/$worker/stat)
    awk -v name="$2" -v clients="$1" -v ticks=$((after - before)) '
      /50%/ { p50 = $2 } /99%/ { p99 = $2 } /requests in/ { n = $1 } /Requests\/sec/ { rate = $2 }
      END { printf "| %s | %s | %s | %s | %.0f | %.1f µs |\n", clients, name, p50, p99, rate, ticks * 1e4 / n }
    ' "$work/wrk"
  }
  echo '| connections | location | p50 | p99 | requests/s | CPU per request |'
  echo '|---:|---|---:|---:|---:|---:|'
  for clients in 1 64; do
    for _ in 1 2 3; do
      measure $clients plain
      measure $clients task
    done
  done
fi

# A graceful shutdown waits for a request.
curl -s --max-time 20 -o "$work/last" "$url/task?ms=1000" &
client=$!
for _ in $(seq 100); do
  # That request and this one.
  ! curl -s "$url/status" | grep -q 'Writing: 2' || break
  sleep 0.05
done
kill -QUIT $nginx
wait $client
wait $nginx || { echo 'FAILED: nginx ended with an error' >&2; exit 1; }
[ "$(cat "$work/last")" = hauled ] || { echo 'FAILED: the last request was lost' >&2; exit 1; }
if grep -E '\[(alert|emerg|crit)\]' "$work/error.log"; then
  echo 'FAILED: nginx complains' >&2
  exit 1
fi
echo 'ok: a graceful shutdown waits for a request'
