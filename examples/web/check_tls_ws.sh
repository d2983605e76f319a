#!/bin/sh
# Tests TLS, WebSocket, the chat and Redis with third-party programs. Skips programs that are not
# installed, and reports that:
#
#   apt-get install chromium curl openssl redis-server npm
#   npm install puppeteer-core        # and NODE_PATH=its node_modules
#   python2 -m pip install autobahntestsuite     # or WSTEST=path; it needs Python 2
#
# Takes a minute, and some for the build. PICTURE=file.png saves a screenshot of the page.
set -u
cd "$(dirname "$0")/../.." || exit 1
tmp=$(mktemp -d)
pids= failed=0 passed=0 skipped=0
trap 'for pid in $pids; do kill "$pid" 2>/dev/null; done; rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

ok() { echo "ok: $1"; passed=$((passed + 1)); }
bad() { echo "FAILED: $1"; failed=$((failed + 1)); }
skip() { echo "SKIPPED: $1"; skipped=$((skipped + 1)); }
check() { # name, command...
    name=$1; shift
    if timeout 300 "$@" >"$tmp/out" 2>&1; then ok "$name"; else bad "$name"; tail -5 "$tmp/out"; fi
}
has() { command -v "$1" >/dev/null 2>&1; }
start() { # program, arguments: it says when it serves
    program=$1; shift
    "$bin/$program" "$@" >"$tmp/$program.out" 2>"$tmp/$program.err" &
    pid=$!; pids="$pids $pid"
    for _ in $(seq 50); do grep -q on "$tmp/$program.out" && return; sleep 0.1; done
    echo "$program does not start"; exit 1
}
stop() { # in good order
    kill -TERM "$pid"; wait "$pid" && ok "$1 ends in good order" || bad "$1 ends with an error"
}

cargo build -q --release -p windlass-web --bins || exit 1
bin=${CARGO_TARGET_DIR:-target}/release

start tls_server 127.0.0.1:7443
url=https://127.0.0.1:7443/
if has curl; then
    head -c 1000000 /dev/urandom >"$tmp/sent"
    for version in --http1.1 --http2; do
        timeout 60 curl -sk $version --data-binary "@$tmp/sent" -o "$tmp/back" \
            -w 'HTTP/%{http_version}' $url >"$tmp/version"
        check "curl over TLS, $(cat "$tmp/version"): 1 MB there and back" cmp "$tmp/sent" "$tmp/back"
    done
    check "curl: fifty requests over one connection" \
        curl -sk --fail "$url[1-50]" -o /dev/null
else
    skip "curl over TLS"
fi
if has openssl; then
    printf 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >"$tmp/request"
    for version in -tls1_2 -tls1_3; do
        timeout 10 openssl s_client -connect 127.0.0.1:7443 $version -ign_eof -quiet \
            <"$tmp/request" >"$tmp/answer" 2>&1
        check "openssl s_client $version" grep -q 'ahoy over HTTP/1.1' "$tmp/answer"
    done
    echo | timeout 10 openssl s_client -connect 127.0.0.1:7443 -alpn h2 >"$tmp/answer" 2>&1
    check "openssl s_client: ALPN chooses h2" grep -aq 'ALPN protocol: h2' "$tmp/answer"
else
    skip "openssl s_client"
fi
stop tls_server

wstest=${WSTEST:-wstest}
start websocket_echo 127.0.0.1:7010
if has "$wstest"; then
    cat >"$tmp/spec.json" <<SPEC
{"outdir": "$tmp/report", "cases": ["*"], "exclude-cases": ["12.*", "13.*"],
 "servers": [{"agent": "windlass", "url": "ws://127.0.0.1:7010"}]}
SPEC
    timeout 300 "$wstest" -m fuzzingclient -s "$tmp/spec.json" -u 0 >"$tmp/wstest" 2>&1
    count() { grep -c "\"behavior\": \"$1\"" "$tmp/report/index.json" 2>/dev/null; }
    summary="$(count OK) OK, $(count NON-STRICT) non-strict, $(count INFORMATIONAL) informational"
    [ "$(count OK)" = 296 ] && [ "$(count FAILED)" = 0 ] \
        && ok "Autobahn: $summary" || bad "Autobahn: $summary, $(count FAILED) failed"
    grep VmHWM "/proc/$pid/status" | sed 's/^/    the server meanwhile, with messages of 16 MiB: /'
else
    skip "Autobahn test suite"
fi
stop websocket_echo

if has openssl; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost \
        -keyout "$tmp/key.pem" -out "$tmp/chain.pem" 2>"$tmp/out" || cat "$tmp/out"
fi
if has openssl && has curl; then
    start web_chat 127.0.0.1:7012 "$tmp/chain.pem" "$tmp/key.pem"
    url=https://127.0.0.1:7012/
    check "curl: the chat's page over TLS" \
        curl -s --fail --cacert "$tmp/chain.pem" --resolve localhost:7012:127.0.0.1 \
        https://localhost:7012/chat.js
    # Upgraded, it waits for the other end to say something, so it's told to stop.
    code=$(curl -sk --http1.1 --max-time 1 -o "$tmp/out" -w '%{http_code}' \
        -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
        -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' -H "Origin: ${url%/}" "${url}socket")
    check "curl: a WebSocket over TLS" [ "$code" = 101 ]
    stop web_chat
else
    skip "curl: the chat over TLS"
fi
if has node && has chromium && node -e 'require("puppeteer-core")' 2>/dev/null; then
    chat() { # name, certificate and key if any
        name=$1; shift
        check "$name" node examples/web/tests/page.cjs "$bin/web_chat" "$(command -v chromium)" \
            "${PICTURE:-$tmp/chat.png}" "$@"
        sed 's/^ok/    ok/' "$tmp/out"
    }
    chat "two pages chat in Chromium"
    [ -s "$tmp/chain.pem" ] &&
        chat "two pages chat in Chromium, over TLS" "$tmp/chain.pem" "$tmp/key.pem"
else
    skip "two pages chat in Chromium"
fi

if has redis-server; then
    redis-server --port 7011 --save '' --appendonly no --dir "$tmp" >"$tmp/redis" 2>&1 &
    redis=$!; pids="$pids $redis"
    for _ in $(seq 50); do grep -q 'Ready to accept' "$tmp/redis" && break; sleep 0.1; done
    check "100,000 Redis commands, pipelined" "$bin/redis_pipeline" 127.0.0.1:7011
    sed 's/^/    /' "$tmp/out"
    # Stopped, it can't be done before it's killed.
    kill -STOP $redis
    "$bin/redis_pipeline" 127.0.0.1:7011 >"$tmp/midway" 2>&1 & client=$!
    sleep 0.5; kill -KILL $redis; wait $client && bad "Redis dies midway" \
        || check "Redis dies midway" grep 'connection has ended' "$tmp/midway"
else
    skip "Redis"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
