//! Whole files.

use std::io;
use std::path::Path;

use super::absolute::from_here;
use super::error::{context, context_of_two};
use super::open::{self, Found};
use super::operation::{MAX_BYTES, has_ring, on_pool_with_paths};
use super::platform;
use super::system;
use super::{File, OpenOptions};

/// The size of the first read of a file of unknown length (bytes). Most files are smaller.
const FIRST_BYTES: usize = 16 * 1024;

/// Reads a whole file.
///
/// # Errors
///
/// Returns the error of the system, with the [path](super#errors).
///
/// # Cancel safety
///
/// The future may be dropped at any time.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// assert!(block_on(fs::read("Cargo.toml"))?.starts_with(b"["));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let contents = read_all(path).await;
    contents.map_err(|error| context("read", path, error))
}

async fn read_all(path: &Path) -> io::Result<Vec<u8>> {
    let mut options = OpenOptions::new();
    options.read(true);
    if has_ring() {
        return read_file(File::open_with(&options, path).await?).await;
    }
    match open::open_cached(&options, path).await? {
        Found::Opened(file) => read_file(File::new(file)).await,
        // One thread does it all, which saves a context switch per step.
        Found::Uncached { path, .. } => {
            on_pool_with_paths([&path.clone()], move || std::fs::read(path)).await
        }
    }
}

async fn read_file(file: File) -> io::Result<Vec<u8>> {
    let beginning = file.beginning();
    let mut contents = Vec::new();
    loop {
        // A query of the length would take a thread, and the length may change.
        if contents.capacity() - contents.len() < FIRST_BYTES {
            contents.reserve(contents.len().clamp(FIRST_BYTES, MAX_BYTES));
        }
        let at = beginning.after(contents.len());
        let room = contents.capacity() - contents.len();
        let read;
        (read, contents) = file.read_buf(contents, room, at).await;
        if read? == 0 {
            contents.shrink_to_fit();
            return Ok(contents);
        }
    }
}

/// Reads a whole file as a UTF-8 string.
///
/// # Errors
///
/// Returns `InvalidData` if the contents are not UTF-8, and the errors of [`read`].
///
/// # Cancel safety
///
/// The future may be dropped at any time.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// assert!(block_on(fs::read_to_string("Cargo.toml"))?.contains("windlass"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    let path = path.as_ref();
    String::from_utf8(read(path).await?).map_err(|error| {
        let error = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
        context("read", path, error)
    })
}

/// Replaces the contents of a file. Creates the file if it does not exist.
///
/// When this returns, the system has the contents, and the disk receives them later.
/// [`File::sync_all`] waits for the disk.
///
/// # Errors
///
/// Returns the error of the system, with the [path](super#errors). After an error, a part of the
/// contents may be in the file.
///
/// # Cancel safety
///
/// If the future is dropped, the file may be empty, or have a first part of the contents, or all.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// # let path = std::env::temp_dir().join(format!("windlass-write-{}", std::process::id()));
/// block_on(fs::write(&path, "ahoy"))?;
/// assert_eq!(std::fs::read(&path)?, b"ahoy");
/// # std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> io::Result<()> {
    let path = path.as_ref();
    let contents = contents.as_ref().to_vec();
    let wrote = if has_ring() {
        write_all(path, contents).await
    } else {
        let whole = from_here(path);
        let write = {
            let whole = whole.clone();
            move || std::fs::write(whole, contents)
        };
        on_pool_with_paths([&whole], write).await
    };
    wrote.map_err(|error| context("write", path, error))
}

async fn write_all(path: &Path, contents: Vec<u8>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = File::open_with(&options, path).await?;
    let wrote = file.write_buf(contents, 0, file.beginning(), true).await.0;
    let closed = match file.take_if_local() {
        Some(std_file) => platform::close(std_file),
        None => file.close().await,
    };
    wrote.and(closed)
}

/// Copies the contents and permissions of a file to another file. Returns the number of bytes.
///
/// The other file is created, or emptied first. A thread uses the system's own copy, by which some
/// file systems share the data.
///
/// # Errors
///
/// Returns the error of the system, with both [paths](super#errors).
///
/// # Cancel safety
///
/// If the future is dropped, the copy continues.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// # let path = std::env::temp_dir().join(format!("windlass-copy-{}", std::process::id()));
/// block_on(fs::copy("Cargo.toml", &path))?;
/// assert_eq!(std::fs::read(&path)?, std::fs::read("Cargo.toml")?);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
    let (from, to) = (from.as_ref(), to.as_ref());
    let whole = [from_here(from), from_here(to)];
    let copy = {
        let [from, to] = whole.clone();
        move || system::copy(&from, &to)
    };
    let copied = on_pool_with_paths(whole.each_ref().map(|path| path.as_path()), copy).await;
    copied.map_err(|error| context_of_two("copy", from, to, error))
}
