//! A key-value server that speaks RESP, the protocol of Redis.
//!
//! ```text
//! cargo run --release --example resp_server                     # --help lists the options
//! redis-cli -p 7379 set rope hemp                               # in a second terminal
//! redis-benchmark -p 7379 -t get,set -P 16 -q
//! cargo run --release --example resp_server -- --log data.log --sync always --memory 64M
//! ```
//!
//! One thread serves all clients. A connection waits until its socket is readable. Then it reads
//! into a buffer that all connections share, executes the complete requests, and sends all replies
//! with one write. It owns a buffer only while a request is incomplete, or while its client reads
//! slower than it sends requests. In the latter case its next requests wait.
//!
//! - Memory is bounded. Above `--memory`, keys that were not used recently are evicted, or writes
//!   are refused (`--policy`). Buffers of clients have a bound of their own.
//! - With `--log`, a reply to a write leaves after the write is in the log file. With `--sync
//!   always` it leaves after the disk has it. All connections share one write and one sync. A log
//!   that a crash has cut off in the middle of a write loses that write.
//! - SIGTERM or Ctrl-C starts a graceful shutdown. Requests that have arrived are answered.
//!
//! `server.rs`, `connection.rs` and `log.rs` are the asynchronous part. The rest is plain code. The
//! tests cut, flood and stall it: `cargo test --test resp_server`. The part `services` of the
//! benchmarks compares it with redis-server.

mod channels;
mod clients;
mod commands;
mod connection;
mod exchange;
mod log;
mod options;
mod reply;
mod request;
mod server;
mod state;
mod store;

use std::env;
use std::ffi::OsString;
use std::io;

use options::Options;

pub(crate) fn main() -> io::Result<()> {
    start(env::args_os().skip(1))
}

pub(crate) fn start(args: impl Iterator<Item = OsString>) -> io::Result<()> {
    match Options::parse(args) {
        Ok(Some(options)) => windlass::block_on(server::run(options)),
        Ok(None) => {
            println!("{}", options::HELP);
            Ok(())
        }
        Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}
