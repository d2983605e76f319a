#!/usr/bin/env bash
# Builds the module for wasm32-unknown-unknown, runs it in headless Chromium, and checks the lines that it
# writes into the page. The page stays in target/browser and can be opened in any browser.
#
# The standard library of the target comes from rustup. With BUILD_STD=1 it is built from Debian's
# rust-web-src instead, which takes a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."

export CARGO_PROFILE_RELEASE_STRIP=true
target=wasm32-unknown-unknown
folder=target/browser

build() {
  if [ -z "${BUILD_STD-}" ] && { rustup target list --installed 2>/dev/null | grep -qx $target ||
    timeout 60 rustup target add $target >/dev/null 2>&1; }; then
    cargo build --release -p windlass-browser --target $target --target-dir $folder
  elif [ -n "${BUILD_STD-}" ] && [ -d /usr/lib/rustlib/src/rust/library ] && [ -x /usr/bin/cargo ]; then
    # Debian's compiler matches its sources. The linker is that of rustup's toolchain.
    local linker
    linker=$(rustc --print target-libdir)/../bin/rust-lld
    RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$linker \
      /usr/bin/cargo build -Zbuild-std=std,panic_abort --release -p windlass-browser --target $target \
      --target-dir $folder
  else
    return 2
  fi
}

status=0
build || status=$?
if [ $status = 2 ]; then
  echo "SKIPPED: rustup can't add $target"
  exit 0
fi
[ $status = 0 ] || exit $status

cp examples/browser/index.html examples/browser/page.js $folder
# Inside a script, because browsers don't read other files from disk.
printf 'const MODULE = "%s"\n' "$(base64 -w0 $folder/$target/release/windlass_browser.wasm)" >$folder/module.js
printf 'the module has %s bytes\n' "$(stat -c %s $folder/$target/release/windlass_browser.wasm)"

if ! command -v chromium >/dev/null; then
  echo 'SKIPPED: chromium is not installed'
  exit 0
fi
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
page=$(timeout 60 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$profile" \
  --virtual-time-budget=20000 --dump-dom "file://$PWD/$folder/index.html?click" 2>/dev/null)
lines=$(sed -n 's/.*<pre id="lines">//; /<\/pre>/q; p' <<<"$page" | sed '/^<!DOCTYPE/d; /<meta/d; /<title/d')
expected='sum of 1,000 tasks: 500500
timers are never early: true
time limit: true, a dropped task continues: false
fetched: ahoy
fetch fails: true
timers fire beside a busy task: true
clicked
done'
echo "$lines"
if [ "$lines" != "$expected" ]; then
  echo "FAILED: Chromium's page differs" >&2
  exit 1
fi
