#!/usr/bin/env bash
# Tests the servers and the client with curl, wrk and nginx, and measures their resource usage.
#
#     examples/web/check.sh             # about two minutes; takes the duration of wrk in seconds, by default 30
#
# Skips programs that are not installed, and reports that.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-30}
ulimit -n 8192 || true

work=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; rm -rf "$work"' EXIT

pass() { printf 'ok       %s\n' "$*"; }
fail() { printf 'FAILED   %s\n' "$*"; exit 1; }
skip() { printf 'SKIPPED  %s\n' "$*"; }
has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ]; }
equal() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: $2 instead of $3"; fi; }
memory() { awk "/^$2/ { print \$2 }" "/proc/$1/status"; } # KiB

cargo build --release -p windlass-web --bins
bin=${CARGO_TARGET_DIR:-target}/release

# Starts one of the servers: its PID in $server, its address in $at.
start() {
  "$bin/$1" "${@:2}" >"$work/log" 2>&1 &
  server=$!
  started+=("$server")
  until grep -q ' on 127' "$work/log"; do
    kill -0 "$server" || fail "$1 has not started: $(cat "$work/log")"
    sleep 0.05
  done
  at=http://$(sed -n 's/.* on \(127.*\)/\1/p' "$work/log")
}

mkdir "$work/files"
truncate -s 1G "$work/files/big"
# Varying content, so that a wrong offset is detected.
for at in $(seq 0 64 1023); do
  head -c 1M /dev/urandom | dd of="$work/files/big" bs=1M seek="$at" conv=notrunc status=none
done
sum=$(sha256sum <"$work/files/big" | cut -d' ' -f1)
start http_server "$work/files" 127.0.0.1:0

if has curl; then
  for version in --http1.1 --http2-prior-knowledge; do
    got=$(curl -sf "$version" "$at/big" | sha256sum | cut -d' ' -f1)
    equal "curl $version: 1 GiB comes down whole" "$got" "$sum"
    got=$(curl -sf "$version" -T "$work/files/big" "$at/sha256" | cut -d' ' -f1)
    equal "curl $version: 1 GiB goes up whole" "$got" "$sum"
    got=$(curl -sf "$version" -r 1048570-1048589 "$at/big" | sha256sum)
    wanted=$(dd if="$work/files/big" bs=1 skip=1048570 count=20 status=none | sha256sum)
    equal "curl $version: a range" "$got" "$wanted"
    got=$(curl -s "$version" -o /dev/null -w '%{http_code}' -r 2000000000- "$at/big")
    equal "curl $version: a range beyond the end" "$got" 416
    got=$(curl -s "$version" -o /dev/null -w '%{http_code}' --path-as-is "$at/../../etc/passwd")
    equal "curl $version: nothing outside of the folder" "$got" 404
  done
  got=$(curl -sf -o /dev/null -o /dev/null -o /dev/null -w '%{num_connects} ' "$at/" "$at/" "$at/")
  equal 'curl: a connection is used again' "$got" '1 0 0 '
  got=$(curl -sv --http1.1 -H 'Expect: 100-continue' -d ahoy "$at/sha256" 2>&1)
  [[ $got == *'100 Continue'* && $got == *"$(printf ahoy | sha256sum | cut -d' ' -f1)"* ]] ||
    fail "Expect: 100-continue: $got"
  pass 'curl: Expect: 100-continue'
  printf '         most memory so far, of which files took none: %s KiB\n' "$(memory "$server" VmHWM)"
else
  skip 'curl is not there'
fi

# Clients that send their head endlessly, one line per second.
slow_loris() {
  python3 - "$1" 1000 "$server" <<'PYTHON'
import socket, sys, time
host, port = sys.argv[1].removeprefix("http://").split(":")
def memory():
    for line in open(f"/proc/{sys.argv[3]}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
before, start = memory(), time.monotonic()
clients = [socket.create_connection((host, int(port))) for _ in range(int(sys.argv[2]))]
for client in clients:
    client.sendall(b"GET / HTTP/1.1\r\n")
most, open_clients = 0, clients
while open_clients and time.monotonic() - start < 40:
    time.sleep(1)
    most = max(most, memory())
    left = []
    for client in open_clients:
        try:
            client.sendall(b"A: b\r\n")
            client.setblocking(False)
            try:
                if client.recv(100) != b"":
                    left.append(client)
            except BlockingIOError:
                left.append(client)
            client.setblocking(True)
        except OSError:
            pass
    open_clients = left
took = time.monotonic() - start
print(f"{len(open_clients)} of {len(clients)} left after {took:.0f} s; {(most - before) / len(clients):.1f} KiB a client")
sys.exit(bool(open_clients))
PYTHON
}
# One header of 10 MB, as fast as it can be sent.
huge_header() {
  python3 - "$1" <<'PYTHON'
import socket, sys
host, port = sys.argv[1].removeprefix("http://").split(":")
client = socket.create_connection((host, int(port)))
sent = 0
try:
    client.sendall(b"GET / HTTP/1.1\r\nA: ")
    for _ in range(100):
        client.sendall(b"a" * 100_000)
        sent += 100_000
except OSError:
    pass
try:
    print(client.recv(100).split(b"\r\n")[0].decode())
except OSError:
    print("reset, before the answer was read")
PYTHON
}
# More connections than the server has file descriptors.
few_descriptors() {
  python3 - "$1" "$work/log" <<'PYTHON'
import socket, sys, time
host, port = sys.argv[1].removeprefix("http://").split(":")
start = time.monotonic()
clients = [socket.create_connection((host, int(port))) for _ in range(100)]
time.sleep(2)
errors = sum("Too many open files" in line for line in open(sys.argv[2]))
rate = errors / (time.monotonic() - start)
print(f"{rate:.0f} errors a second")
sys.exit(not 0 < rate < 40)  # it rests for 50 ms after each
PYTHON
}
if has python3; then
  before=$(memory "$server" VmHWM)
  got=$(huge_header "$at")
  [[ $got == *431* || $got == reset* ]] || fail "a header of 10 MB: $got"
  pass "a header of 10 MB is refused: $got; memory +$(($(memory "$server" VmHWM) - before)) KiB"
  got=$(slow_loris "$at") || fail "slow heads: $got"
  pass "slow heads are hung up on: $got"
  if has prlimit && has curl; then
    limit=$(prlimit --pid "$server" --nofile --output SOFT --noheadings)
    prlimit --pid "$server" --nofile="40:"
    got=$(few_descriptors "$at") || fail "no descriptor left: $got"
    curl -sf --retry 5 "$at/" >/dev/null || fail 'no descriptor left: nobody is served afterwards'
    pass "no descriptor left: the server rests, and goes on: $got"
    prlimit --pid "$server" --nofile="$limit:"
  fi
else
  skip 'python3 is not there'
fi

if has wrk; then
  got=$(wrk -t1 -c1000 -d"${seconds}s" "$at/")
  if [[ $got == *'Socket errors'* || $got == *Non-2xx* ]]; then fail "wrk: $got"; fi
  pass "wrk, 1,000 connections for $seconds s, without an error:$(grep Requests/sec <<<"$got")"
  printf '         most memory of all: %s KiB\n' "$(memory "$server" VmHWM)"
else
  skip 'wrk is not there'
fi
kill -TERM "$server"
wait "$server" || fail 'SIGTERM did not end the server well'
pass "SIGTERM: $(tail -1 "$work/log")"

if has curl; then
  start axum_app 127.0.0.1:0
  curl -sf "$at/visits/a" >/dev/null
  equal 'axum: what a task counts' "$(curl -sf "$at/visits/a")" '{"place":"a","visits":2}'
  for i in $(seq 100); do curl -sf "$at/slow?millis=3000" >>"$work/answers" & waiting[i]=$!; done
  # All are in flight when it's told to stop: as many sockets are open.
  until [ "$(find "/proc/$server/fd" -lname 'socket:*' | wc -l)" -ge 101 ]; do sleep 0.1; done
  sleep 0.5
  kill -TERM "$server"
  until ! curl -s "$at/" >/dev/null; do sleep 0.05; done
  pass 'stopping: new connections are refused'
  failed=0
  for pid in "${waiting[@]}"; do wait "$pid" || failed=$((failed + 1)); done
  equal 'stopping: requests in flight that failed' "$failed" 0
  equal 'stopping: requests in flight that were answered' "$(wc -l <"$work/answers")" 100
  wait "$server" || fail 'SIGTERM did not end the server well'
  pass "stopping: $(tail -1 "$work/log")"
fi

if has nginx; then
  mkdir "$work/nginx"
  seq 100000 >"$work/nginx/numbers.txt"
  cat >"$work/nginx.conf" <<CONF
daemon off; pid $work/nginx.pid; error_log $work/error.log; master_process off;
events {}
http {
  access_log off; default_type text/plain;
  client_body_temp_path $work/a; proxy_temp_path $work/b; fastcgi_temp_path $work/c;
  uwsgi_temp_path $work/d; scgi_temp_path $work/e;
  gzip on; gzip_types text/plain;
  server {
    listen 127.0.0.1:18089; root $work/nginx;
    location /moved { return 302 /numbers.txt; }
    location /around { return 301 /around; }
    # Passed on as it comes, without a length, which makes it chunked.
    location /chunked/ { gzip off; ssi on; ssi_types text/plain; alias $work/nginx/; }
    location /plain/ { gzip off; alias $work/nginx/; }
  }
}
CONF
  PATH=$PATH:/usr/sbin nginx -c "$work/nginx.conf" -e "$work/error.log" &
  started+=("$!")
  until [ -s "$work/nginx.pid" ]; do sleep 0.05; done
  sum=$(sha256sum <"$work/nginx/numbers.txt")
  ask() {
    got=$("$bin/http_client" "http://127.0.0.1:18089/$1" 2>"$work/log" | sha256sum)
    equal "http_client, nginx: /$1" "$got" "$sum"
    grep -q "$2" "$work/log" || fail "it was not $2: $(cat "$work/log")"
  }
  ask plain/numbers.txt '200 OK'
  ask chunked/numbers.txt 'transfer-encoding: chunked'
  ask numbers.txt 'content-encoding: gzip'
  ask moved '/numbers.txt: HTTP/1.1 200'
  if "$bin/http_client" http://127.0.0.1:18089/around >/dev/null 2>"$work/log"; then
    fail 'http_client: redirects for ever'
  fi
  pass "http_client, nginx: $(head -1 "$work/log")"
else
  skip 'nginx is not there'
fi
