#!/usr/bin/env bash
# Builds the module with the peer and runs bench.py. BENCH_ROUNDS and BENCH_SECONDS shorten it.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release -p windlass-python --features peer
cargo build --release --example echo
folder=target/python-bench
mkdir -p "$folder"
cp target/release/libwindlass_asyncio.so "$folder/windlass_asyncio.abi3.so"
ECHO=target/release/examples/echo PYTHONPATH=$folder exec python3 examples/python/bench.py
