//! A backup: it has a copy of the primary's log, and follows one connection at a time.

use std::convert::Infallible;
use std::io;
use std::path::Path;

use windlass::net::TcpListener;

use crate::connection::{Connection, LIMIT};
use crate::log::Log;
use crate::primary::Bug;

/// Runs a backup. Its log is in a directory of its own.
pub(crate) async fn run(addr: &str, dir: &Path, bug: Option<Bug>) -> io::Result<Infallible> {
    let skips_sync = bug == Some(Bug::AckBeforeSync);
    let (mut log, mut entries) = match Log::open(dir, skips_sync).await? {
        Some(opened) => opened,
        None => (Log::create(dir, &[], skips_sync).await?, Vec::new()),
    };
    let listener = TcpListener::bind(addr).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let mut primary = Connection::new(stream);
        // An error of the connection ends the connection. An error of the log ends the backup.
        while primary
            .send(&format!("have {}", entries.len()))
            .await
            .is_ok()
        {
            // The primary sends a heartbeat when it has nothing else.
            let Ok(line) = primary.receive(2 * LIMIT).await else {
                break;
            };
            match line.split_once(' ') {
                Some(("append", entry)) => {
                    let Ok(entry) = entry.parse() else { break };
                    log.append(&entry).await?;
                    entries.push(entry);
                }
                Some(("send", from)) => {
                    let from = from.parse().unwrap_or(0).min(entries.len());
                    for entry in &entries[from..] {
                        if primary.send(&entry.to_string()).await.is_err() {
                            break;
                        }
                    }
                }
                _ => {} // a heartbeat
            }
        }
    }
}
