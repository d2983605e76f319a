//! Absolute paths, which threads resolve later.

use std::io;
use std::path::{Path, PathBuf};

use super::simulation::is_simulated;

/// Returns the absolute path, because the current directory may change before a thread resolves it.
/// The current directory of a simulated host is its root.
pub(super) fn from_here(path: &Path) -> PathBuf {
    /// Shorter than the limit of every system.
    const LONGEST: usize = 1000;
    let bytes = path.as_os_str().as_encoded_bytes();
    if is_simulated() || path.is_absolute() || bytes.is_empty() || bytes.contains(&0) {
        return path.to_owned();
    }
    match whole(path) {
        Ok(whole) if whole.as_os_str().len() < LONGEST => whole,
        _ => path.to_owned(), // the current directory has no path, or a long one
    }
}

#[cfg(unix)]
fn whole(path: &Path) -> io::Result<PathBuf> {
    Ok(std::env::current_dir()?.join(path))
}

#[cfg(not(unix))]
fn whole(path: &Path) -> io::Result<PathBuf> {
    std::path::absolute(path)
}
