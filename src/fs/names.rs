//! What is done with names, and not with what is in the files. io_uring gives most of it to threads
//! of the kernel, and the rest it can't do: so it's for the pool.

use std::fs::{Metadata, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use super::error::{context, context_of_two};
use super::operation::on_pool;

/// A function of std that takes a path.
macro_rules! of_path {
    ($(#[$doc:meta])* $name:ident, $what:literal, $std:path, $output:ty) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Those of the system, with the [path](super#errors).
        ///
        /// # Cancel safety
        ///
        /// When dropped, it's done, or not, or it goes on.
        pub async fn $name(path: impl AsRef<Path>) -> io::Result<$output> {
            of_one($what, path.as_ref(), |path| $std(path)).await
        }
    };
}

/// A function of std that takes two paths.
macro_rules! of_paths {
    ($(#[$doc:meta])* $name:ident, $what:literal, $std:path) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Those of the system, with both [paths](super#errors).
        ///
        /// # Cancel safety
        ///
        /// When dropped, it's done, or not, or it goes on.
        pub async fn $name(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
            of_two($what, from.as_ref(), to.as_ref(), |from, to| $std(from, to)).await
        }
    };
}

of_path! {
    /// Makes a folder. Its parent must be there.
    ///
    /// ```
    /// use windlass::{block_on, fs};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-dir-{}", std::process::id()));
    /// block_on(async {
    ///     fs::create_dir(&path).await?;
    ///     assert!(fs::metadata(&path).await?.is_dir());
    ///     fs::remove_dir(&path).await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    create_dir, "make the folder", std::fs::create_dir, ()
}
of_path! {
    /// Makes a folder and those that it is to be in. If it's there, that is fine.
    create_dir_all, "make the folder", std::fs::create_dir_all, ()
}
of_path! {
    /// Removes a file's name. The file itself goes when nobody has it open any more.
    remove_file, "remove", std::fs::remove_file, ()
}
of_path! {
    /// Removes a folder that is empty.
    remove_dir, "remove the folder", std::fs::remove_dir, ()
}
of_path! {
    /// Removes a folder with all that is in it. Symbolic links are removed and not followed.
    remove_dir_all, "remove the folder", std::fs::remove_dir_all, ()
}
of_path! {
    /// What the system knows of a file or folder; of what a symbolic link leads to.
    metadata, "look at", std::fs::metadata, Metadata
}
of_path! {
    /// As [`metadata`], but of a symbolic link itself.
    symlink_metadata, "look at", std::fs::symlink_metadata, Metadata
}
of_path! {
    /// The absolute path, without symbolic links and without `..`. It must be there.
    canonicalize, "find", std::fs::canonicalize, PathBuf
}
of_path! {
    /// Where a symbolic link leads.
    read_link, "read the link", std::fs::read_link, PathBuf
}
of_path! {
    /// Whether it's there. An error if that can't be said; that there is nothing is none.
    try_exists, "look for", std::fs::exists, bool
}

of_paths! {
    /// Gives a file or folder another name, in one step. A file that has that name is replaced.
    ///
    /// ```
    /// use windlass::{block_on, fs};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-name-{}", std::process::id()));
    /// # let (new, old) = (path.with_extension("new"), path);
    /// block_on(async {
    ///     // So that nobody ever sees half of it:
    ///     fs::write(&new, "all of it").await?;
    ///     fs::rename(&new, &old).await?;
    ///     assert_eq!(fs::read(&old).await?, b"all of it");
    ///     fs::remove_file(&old).await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    rename, "rename", std::fs::rename
}
of_paths! {
    /// Gives a file one more name.
    hard_link, "link", std::fs::hard_link
}
/// Makes a symbolic link at the second path, which leads to the first.
///
/// # Errors
///
/// Those of the system, with both [paths](super#errors).
///
/// # Cancel safety
///
/// When dropped, it's done, or not, or it goes on.
#[cfg(unix)]
pub async fn symlink(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    // What it leads to is written into it as it is.
    let owned = (from.to_owned(), from_here(to));
    let result = on_pool(move || std::os::unix::fs::symlink(owned.0, owned.1)).await;
    result.map_err(|error| context_of_two("link", from, to, error))
}

/// Who may do what with a file or folder.
///
/// # Errors
///
/// Those of the system, with the [path](super#errors).
///
/// # Cancel safety
///
/// When dropped, it's done, or not, or it goes on.
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let set = |path: &Path| std::fs::set_permissions(path, permissions);
    of_one("change", path.as_ref(), set).await
}

async fn of_one<T: Send + 'static>(
    what: &'static str,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let owned = from_here(path);
    let result = on_pool(move || work(&owned)).await;
    result.map_err(|error| context(what, path, error))
}

pub(super) async fn of_two<T: Send + 'static>(
    what: &'static str,
    from: &Path,
    to: &Path,
    work: impl FnOnce(&Path, &Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let owned = (from_here(from), from_here(to));
    let result = on_pool(move || work(&owned.0, &owned.1)).await;
    result.map_err(|error| context_of_two(what, from, to, error))
}

/// The path from the directory that is the current one now. A thread may resolve it when that has
/// changed.
pub(super) fn from_here(path: &Path) -> PathBuf {
    /// What the system takes at most, here and where it's less.
    const LONGEST: usize = 1000;
    let bytes = path.as_os_str().as_encoded_bytes();
    if path.is_absolute() || bytes.is_empty() || bytes.contains(&0) {
        return path.to_owned();
    }
    match whole(path) {
        Ok(whole) if whole.as_os_str().len() < LONGEST => whole,
        _ => path.to_owned(), // where there's no way from the root, or too long a one
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
