//! A replicated key-value store: a primary, two backups, and clients that retry.
//!
//! ```text
//! cargo run --example kv
//! ```
//!
//! A write is acknowledged after the primary and one of the backups have synced it to their disks.
//! So it survives the loss of each node. This program starts the nodes and a client on loopback,
//! and stops two of the nodes meanwhile.
//!
//! The test runs the same store in a simulated world, with crashes, partitions and planted bugs:
//!
//! ```text
//! cargo test --features sim --test kv
//! ```

mod backup;
mod client;
mod connection;
mod log;
mod primary;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use windlass::time::sleep;
use windlass::{Task, spawn};

use client::Client;

const PRIMARY: &str = "127.0.0.1:7100";
const BACKUPS: [&str; 2] = ["127.0.0.1:7101", "127.0.0.1:7102"];

fn main() -> io::Result<()> {
    let dir = std::env::temp_dir().join(format!("windlass-kv-{}", std::process::id()));
    for name in ["primary", "backup-1", "backup-2"] {
        fs::create_dir_all(dir.join(name))?;
    }
    windlass::block_on(run(&dir));
    fs::remove_dir_all(dir)
}

async fn run(dir: &Path) {
    let _first = start_backup(BACKUPS[0], dir.join("backup-1"));
    let second = start_backup(BACKUPS[1], dir.join("backup-2"));
    let primary = start_primary(dir);
    let mut client = Client::new(PRIMARY, "client");
    client.put("rope", "hemp").await;
    println!("written: the rope is of hemp");

    drop(second);
    println!("one backup has stopped");
    client.put("rope", "nylon").await;
    println!("written: the rope is of nylon");

    drop(primary);
    println!("the primary has stopped, and starts again in a second");
    let read = spawn(async move { client.get("rope").await });
    sleep(Duration::from_secs(1)).await;
    let _primary = start_primary(dir);
    println!("read: the rope is of {}", read.await.unwrap_or_default());
}

fn start_backup(addr: &'static str, dir: impl AsRef<Path> + 'static) -> Task<()> {
    spawn(async move {
        let Err(error) = backup::run(addr, dir.as_ref(), None).await;
        eprintln!("the backup at {addr} has failed: {error}");
    })
}

fn start_primary(dir: &Path) -> Task<()> {
    let dir = dir.join("primary");
    spawn(async move {
        let backups = BACKUPS.map(str::to_owned);
        let Err(error) = primary::run(PRIMARY, &dir, &backups, None).await;
        eprintln!("the primary has failed: {error}");
    })
}
