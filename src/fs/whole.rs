//! Whole files.

use std::io;
use std::path::Path;

use super::error::{context, context_of_two};
use super::names::from_here;
use super::operation::{MOST_BYTES, has_ring, on_pool_with_paths};
use super::platform;
use super::{File, OpenOptions};

/// The first read of a file of which nothing is known (bytes). Most files end within it.
const FIRST_BYTES: usize = 16 * 1024;

/// Reads a whole file.
///
/// # Errors
///
/// Those of the system, with the [path](super#errors).
///
/// # Cancel safety
///
/// May be dropped at any time.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs};
///
/// assert!(block_on(fs::read("Cargo.toml"))?.starts_with(b"[package]"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let path = path.as_ref();
    let contents = if has_ring() {
        read_all(path).await
    } else {
        // In one go, not a thread's way for each step.
        let whole = from_here(path);
        on_pool_with_paths([&whole.clone()], move || std::fs::read(whole)).await
    };
    contents.map_err(|error| context("read", path, error))
}

async fn read_all(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open_with(OpenOptions::new().read(true), path).await?;
    let beginning = file.beginning();
    let mut contents = Vec::new();
    loop {
        // Not to ask for the length saves a thread's way; and it may change.
        if contents.capacity() - contents.len() < FIRST_BYTES {
            contents.reserve(contents.len().clamp(FIRST_BYTES, MOST_BYTES));
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

/// Reads a whole file that is UTF-8.
///
/// # Errors
///
/// `InvalidData` if it isn't, and those of [`read`].
///
/// # Cancel safety
///
/// May be dropped at any time.
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

/// Writes a file that has these contents and no others; it's made if it isn't there.
///
/// When it returns, the system has them, but the disk may not yet: that is what
/// [`File::sync_all`] is for.
///
/// # Errors
///
/// Those of the system, with the [path](super#errors). After one, a part of the contents may be in
/// the file.
///
/// # Cancel safety
///
/// When dropped, the file may be empty, or have a first part of the contents, or all.
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

/// Copies a file's contents and permissions to another, which is made, or emptied before; says how
/// many bytes. A thread does it, by the system's own means: some file systems then share the data.
///
/// # Errors
///
/// Those of the system, with both [paths](super#errors).
///
/// # Cancel safety
///
/// When dropped, it goes on.
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
        move || std::fs::copy(from, to)
    };
    let copied = on_pool_with_paths(whole.each_ref().map(|path| path.as_path()), copy).await;
    copied.map_err(|error| context_of_two("copy", from, to, error))
}
