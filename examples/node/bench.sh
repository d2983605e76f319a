#!/usr/bin/env bash
# Builds the module and its peer, and runs bench.mjs. BENCH_ROUNDS and BENCH_SECONDS shorten it.
set -euo pipefail
cd "$(dirname "$0")/../.."

cargo build --release -p windlass-node
cargo build --release -p windlass-node-peer
cargo build --release --example echo
folder=$PWD/target/node-bench
mkdir -p "$folder"
cp target/release/libwindlass_node.so "$folder/windlass.node"
cp target/release/libwindlass_node_peer.so "$folder/peer.node"
export WINDLASS=$folder/windlass.node TOKIO=$folder/peer.node ECHO=target/release/examples/echo
exec node examples/node/bench.mjs
