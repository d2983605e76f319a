//! Checksums of all files in a directory, 64 files at a time, while a timer reports progress.
//!
//! ```text
//! cargo run --release --example files -- .        # any folder
//! cargo run --release --example files -- . > before
//! ```
//!
//! Equal files have equal checksums, so `diff` on two outputs shows the changes. The program uses
//! one thread. On Linux, io_uring does the reads in the kernel.

use std::cell::Cell;
use std::env;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures::{FutureExt, StreamExt, select, stream};
use windlass::fs::{self, File};
use windlass::time::interval;

/// Maximum number of open files.
const AT_ONCE: usize = 64;
/// Bytes of each file that are in memory at a time.
const PIECE: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let folder = env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    windlass::block_on(async {
        let (files, bytes) = (Cell::new(0), Cell::new(0));
        let sums = async {
            let paths = stream::iter(files_below(folder.into()).await?);
            let mut sums = paths.map(|path| sum(path, &bytes)).buffered(AT_ONCE);
            while let Some(result) = sums.next().await {
                files.set(files.get() + 1);
                match result {
                    Ok((sum, path)) => println!("{sum:016x}  {}", path.display()),
                    Err(error) => eprintln!("{error}"), // the error names the file
                }
            }
            io::Result::Ok(())
        };
        let mut sums = pin!(sums.fuse());
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            select! {
                result = sums => return result,
                _ = ticks.tick().fuse() => {
                    eprintln!("{} files, {} MiB", files.get(), bytes.get() >> 20);
                }
            }
        }
    })
}

/// All files below the directory, without following symbolic links.
async fn files_below(folder: PathBuf) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let file_type = entry.file_type().await?;
            if file_type.is_dir() {
                folders.push(entry.path());
            } else if file_type.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

async fn sum(path: PathBuf, bytes: &Cell<u64>) -> io::Result<(u64, PathBuf)> {
    let file = File::open(&path).await?;
    let mut hasher = DefaultHasher::new();
    let (mut offset, mut piece) = (0, Vec::with_capacity(PIECE));
    loop {
        let read;
        (read, piece) = file.read_buf_at(piece, offset).await;
        let n = read? as u64;
        if n == 0 {
            return Ok((hasher.finish(), path));
        }
        hasher.write(&piece);
        piece.clear();
        offset += n;
        bytes.set(bytes.get() + n);
    }
}
