//! Operations on names and metadata. Metadata in memory is read at once. io_uring would hand most
//! other operations to threads of the kernel, and lacks the rest, so the pool performs them.

use std::fs::Permissions;
use std::io;
use std::path::{Path, PathBuf};

use super::absolute::from_here;
use super::cached;
use super::error::{context, context_of_two};
use super::metadata::Metadata;
use super::operation::on_pool;
use super::simulation::is_simulated;
use super::system;

/// Defines the async version of an operation that takes a path.
macro_rules! of_path {
    (
        $(#[$doc:meta])* $name:ident, $what:literal, $work:path, $output:ty
        $(, $path:ident => $cached:expr)?
    ) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Returns the error of the system, with the [path](super#errors).
        ///
        /// # Cancel safety
        ///
        /// If the future is dropped, the operation may or may not happen.
        pub async fn $name(path: impl AsRef<Path>) -> io::Result<$output> {
            $(
                let $path = path.as_ref();
                if let Some(result) = $cached {
                    return result.map_err(|error| context($what, $path, error));
                }
            )?
            of_one($what, path.as_ref(), |path| $work(path)).await
        }
    };
}

/// Defines the async version of an operation that takes two paths.
macro_rules! of_paths {
    ($(#[$doc:meta])* $name:ident, $what:literal, $work:path) => {
        $(#[$doc])*
        ///
        /// # Errors
        ///
        /// Returns the error of the system, with both [paths](super#errors).
        ///
        /// # Cancel safety
        ///
        /// If the future is dropped, the operation may or may not happen.
        pub async fn $name(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
            of_two($what, from.as_ref(), to.as_ref(), |from, to| $work(from, to)).await
        }
    };
}

of_path! {
    /// Creates a directory. Its parent must exist.
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
    create_dir, "create the directory", system::create_dir, ()
}
of_path! {
    /// Creates a directory and its missing parents. Succeeds if the directory exists.
    create_dir_all, "create the directory", system::create_dir_all, ()
}
of_path! {
    /// Removes a name of a file. The file is deleted once its last name is removed and its last
    /// file descriptor is closed.
    remove_file, "remove", system::remove_file, ()
}
of_path! {
    /// Removes an empty directory.
    remove_dir, "remove the directory", system::remove_dir, ()
}
of_path! {
    /// Removes a directory and all its contents. Removes symbolic links themselves and keeps their
    /// targets.
    remove_dir_all, "remove the directory", system::remove_dir_all, ()
}
of_path! {
    /// Returns the metadata of a file or directory. Symbolic links are followed.
    metadata, "read the metadata of", system::metadata, Metadata,
    path => cached_metadata(path, true).await
}
of_path! {
    /// Returns the metadata of a file, a directory or a symbolic link itself.
    symlink_metadata, "read the metadata of", system::symlink_metadata, Metadata,
    path => cached_metadata(path, false).await
}
of_path! {
    /// Returns the absolute path, without symbolic links and without `..`. The path must exist.
    canonicalize, "find", system::canonicalize, PathBuf
}
of_path! {
    /// Returns the target of a symbolic link.
    read_link, "read the link", system::read_link, PathBuf
}
of_path! {
    /// Returns whether the path exists. Returns an error if the system can't find out.
    try_exists, "find", system::try_exists, bool,
    path => cached_exists(path).await
}

of_paths! {
    /// Renames a file or directory atomically. A file of the new name is replaced.
    ///
    /// ```
    /// use windlass::{block_on, fs};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-name-{}", std::process::id()));
    /// # let (new, old) = (path.with_extension("new"), path);
    /// block_on(async {
    ///     // Readers see the old contents or the new ones, never a part:
    ///     fs::write(&new, "all of it").await?;
    ///     fs::rename(&new, &old).await?;
    ///     assert_eq!(fs::read(&old).await?, b"all of it");
    ///     fs::remove_file(&old).await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    rename, "rename", system::rename
}
of_paths! {
    /// Creates a hard link, which is a further name of a file.
    hard_link, "link", system::hard_link
}
/// Creates a symbolic link at the second path. Its target is the first path.
///
/// # Errors
///
/// Returns the error of the system, with both [paths](super#errors).
///
/// # Cancel safety
///
/// If the future is dropped, the operation may or may not happen.
#[cfg(unix)]
pub async fn symlink(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    // The target is stored as it is, unresolved.
    let owned = (from.to_owned(), from_here(to));
    let result = on_pool(move || system::symlink(&owned.0, &owned.1)).await;
    result.map_err(|error| context_of_two("link", from, to, error))
}

/// Changes the permissions of a file or directory.
///
/// # Errors
///
/// Returns the error of the system, with the [path](super#errors).
///
/// # Cancel safety
///
/// If the future is dropped, the operation may or may not happen.
pub async fn set_permissions(path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
    let set = |path: &Path| system::set_permissions(path, permissions);
    of_one("change", path.as_ref(), set).await
}

/// Changes the owner and the group of a file or directory. `None` keeps one. Symbolic links are
/// followed.
///
/// # Errors
///
/// Returns the error of the system, with the [path](super#errors). Fails in a simulation.
///
/// # Cancel safety
///
/// If the future is dropped, the operation may or may not happen.
#[cfg(unix)]
pub async fn chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let change = move |path: &Path| system::chown(path, uid, gid, true);
    of_one("change the owner of", path.as_ref(), change).await
}

/// Changes the owner and the group as [`chown`] does, of a symbolic link itself.
///
/// # Errors
///
/// Returns the errors of [`chown`].
///
/// # Cancel safety
///
/// If the future is dropped, the operation may or may not happen.
#[cfg(unix)]
pub async fn lchown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let change = move |path: &Path| system::chown(path, uid, gid, false);
    of_one("change the owner of", path.as_ref(), change).await
}

/// Returns the metadata of a path if the system has it in memory.
async fn cached_metadata(path: &Path, follows_link: bool) -> Option<io::Result<Metadata>> {
    if is_simulated() {
        return None;
    }
    let path = cached::admit_lookup(path).await?;
    cached::metadata(&path, follows_link)
}

async fn cached_exists(path: &Path) -> Option<io::Result<bool>> {
    match cached_metadata(path, true).await? {
        Ok(_) => Some(Ok(true)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Ok(false)),
        Err(error) => Some(Err(error)),
    }
}

pub(super) async fn of_one<T: Send + 'static>(
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
