//! The options for creating a directory.

use std::io;
use std::path::Path;

use super::names::of_one;
use super::system;

/// The options for creating a directory. Their names and meanings are the same as in std.
///
/// # Examples
///
/// ```
/// use windlass::{block_on, fs::{self, DirBuilder}};
///
/// # let folder = std::env::temp_dir().join(format!("windlass-dirs-{}", std::process::id()));
/// let path = folder.join("a/b");
/// block_on(async {
///     DirBuilder::new().recursive(true).create(&path).await?;
///     assert!(fs::metadata(&path).await?.is_dir());
///     fs::remove_dir_all(&folder).await
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct DirBuilder {
    is_recursive: bool,
    /// Unused on Windows.
    mode: u32,
}

impl DirBuilder {
    /// Returns options for one directory, with the default permissions.
    #[expect(clippy::new_without_default, reason = "as std")]
    pub fn new() -> DirBuilder {
        DirBuilder {
            is_recursive: false,
            mode: 0o777,
        }
    }

    /// Sets whether missing parents are created, too. Then an existing directory is no error.
    pub fn recursive(&mut self, recursive: bool) -> &mut Self {
        self.is_recursive = recursive;
        self
    }

    /// Sets the permissions of created directories, less the process's umask. The default is
    /// `0o777`.
    ///
    /// ```ignore-windows
    /// use std::os::unix::fs::PermissionsExt;
    /// use windlass::{block_on, fs::{self, DirBuilder}};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-mode-{}", std::process::id()));
    /// block_on(async {
    ///     DirBuilder::new().mode(0o700).create(&path).await?;
    ///     assert_eq!(fs::metadata(&path).await?.permissions().mode() & 0o777, 0o700);
    ///     fs::remove_dir(&path).await
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = mode;
        self
    }

    /// Creates the directory.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may or may not happen.
    pub async fn create(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (is_recursive, mode) = (self.is_recursive, self.mode);
        let create = move |path: &Path| system::build_dir(path, is_recursive, mode);
        of_one("create the directory", path.as_ref(), create).await
    }
}
