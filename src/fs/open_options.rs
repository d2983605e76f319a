//! The options for opening a file.

use std::fmt;
use std::io;
use std::path::Path;
#[cfg(unix)]
use std::sync::{Arc, OnceLock};

#[cfg(unix)]
use rustix::fs::OFlags;

use super::File;
use super::error::context;
use super::handle::Handle;
#[cfg(unix)]
use super::platform::is_direct;

/// The options for opening a file. Their names and meanings are the same as in std.
///
/// # Examples
///
/// ```
/// use futures::AsyncWriteExt;
/// use windlass::{block_on, fs::OpenOptions};
///
/// # let folder = std::env::temp_dir().join(format!("windlass-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("log");
/// block_on(async {
///     let mut log = OpenOptions::new().append(true).create(true).open(&path).await?;
///     log.write_all(b"ahoy\n").await?;
///     log.flush().await
/// })?;
/// assert_eq!(std::fs::read(&path)?, b"ahoy\n");
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenOptions {
    std: std::fs::OpenOptions,
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    #[cfg(unix)]
    pub(super) mode: u32,
    #[cfg(unix)]
    custom_flags: i32,
}

/// Defines one of std's options.
macro_rules! option {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub fn $name(&mut self, $name: bool) -> &mut Self {
            self.std.$name($name);
            self.$name = $name;
            self
        }
    };
}

impl OpenOptions {
    /// Returns options that are all unset.
    #[expect(clippy::new_without_default, reason = "as std")]
    pub fn new() -> OpenOptions {
        OpenOptions {
            std: std::fs::OpenOptions::new(),
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            #[cfg(unix)]
            mode: 0o666,
            #[cfg(unix)]
            custom_flags: 0,
        }
    }

    option! {
        /// Opens the file for reading.
        read
    }
    option! {
        /// Opens the file for writing. Writes replace the bytes at their offset.
        write
    }
    option! {
        /// Opens the file for writing at its end, even if other processes write there, too.
        append
    }
    option! {
        /// Removes the contents of the file. Requires [`write`](OpenOptions::write).
        truncate
    }
    option! {
        /// Creates the file if it does not exist. Requires [`write`](OpenOptions::write) or
        /// [`append`](OpenOptions::append).
        create
    }
    option! {
        /// Creates the file, and fails with `AlreadyExists` if it exists. This is atomic, so
        /// exactly one of several concurrent attempts succeeds.
        create_new
    }

    /// Sets the permissions of a created file, less the process's umask. The default is `0o666`.
    #[cfg(unix)]
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::mode(&mut self.std, mode);
        self.mode = mode;
        self
    }

    /// Sets further flags of the system's `open`, such as `O_DIRECT`, which
    /// [`File`](File#direct-input-and-output) describes.
    #[cfg(unix)]
    pub fn custom_flags(&mut self, flags: i32) -> &mut Self {
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut self.std, flags);
        self.custom_flags = flags;
        self
    }

    /// Sets further flags of `CreateFile`.
    #[cfg(windows)]
    pub(super) fn system_flags(&mut self, flags: u32) {
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut self.std, flags);
    }

    /// Opens the file.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the options contradict each other, and the error of the system,
    /// with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file may have been created or emptied. It is closed.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let opened = File::open_with(self, path).await;
        opened.map_err(|error| context("open", path, error))
    }

    pub(super) fn std(&self) -> &std::fs::OpenOptions {
        &self.std
    }

    /// Returns the flags that std passes to the system for options that were checked.
    #[cfg(target_os = "linux")]
    pub(super) fn flags(&self) -> OFlags {
        let access = match (self.read, self.writes()) {
            (true, true) => OFlags::RDWR,
            (true, false) => OFlags::RDONLY,
            (false, _) => OFlags::WRONLY,
        };
        let mut flags = access | OFlags::CLOEXEC;
        flags.set(OFlags::APPEND, self.appends());
        flags.set(OFlags::CREATE, self.create || self.create_new);
        flags.set(OFlags::EXCL, self.create_new);
        flags.set(OFlags::TRUNC, self.truncate && !self.create_new);
        let custom = OFlags::from_bits_retain(self.custom_flags as _);
        flags | (custom - OFlags::RWMODE)
    }

    /// Returns whether the open may create or empty the file.
    #[cfg(target_os = "linux")]
    pub(super) fn may_create(&self) -> bool {
        self.create || self.create_new || self.truncate
    }

    /// Returns whether the open does no more than a lookup and a check of permissions. Flags could
    /// change the lookup.
    #[cfg(target_os = "linux")]
    pub(super) fn only_opens(&self) -> bool {
        !self.may_create() && self.custom_flags == 0
    }

    pub(super) fn writes(&self) -> bool {
        self.write || self.append
    }

    #[cfg(unix)]
    pub(super) fn appends(&self) -> bool {
        self.append || self.has_flag(|flags| flags.contains(OFlags::APPEND))
    }

    /// Returns the handle of a file or directory that was opened with these options, without a
    /// system call.
    #[cfg(unix)]
    pub(super) fn handle(&self, file: std::fs::File) -> Handle {
        Handle {
            file,
            simulated: None,
            order: Arc::default(),
            is_stream: false,
            is_nonblocking: self.has_flag(|flags| flags.contains(OFlags::NONBLOCK)),
            is_direct: self.has_flag(is_direct),
            appends: self.appends(),
            writes: self.writes(),
            file_system: OnceLock::new(),
        }
    }

    #[cfg(not(unix))]
    pub(super) fn handle(&self, file: std::fs::File) -> Handle {
        Handle::new(file)
    }

    #[cfg(unix)]
    fn has_flag(&self, has: fn(OFlags) -> bool) -> bool {
        has(OFlags::from_bits_retain(self.custom_flags as _))
    }

    /// Returns the options for a simulated disk.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    pub(super) fn how(&self) -> crate::sim::disk::How {
        let has = |flag: OFlags| OFlags::from_bits_retain(self.custom_flags as _).contains(flag);
        crate::sim::disk::How {
            read: self.read,
            write: self.writes(),
            append: self.appends(),
            truncate: self.truncate && !self.create_new,
            create: self.create,
            create_new: self.create_new,
            mode: self.mode,
            directory: has(OFlags::DIRECTORY),
            no_follow: has(OFlags::NOFOLLOW),
            sync: has(OFlags::DSYNC),
        }
    }

    /// Makes the checks that std makes before the system call.
    pub(super) fn check(&self, path: &Path) -> io::Result<()> {
        let has_access = self.read || self.writes();
        let makes = self.truncate || self.create || self.create_new;
        let goes_together = has_access
            && (self.writes() || !makes)
            && !(self.append && self.truncate && !self.create_new);
        if !goes_together {
            let text = "the options for opening the file contradict each other";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path contains a zero byte",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.std.fmt(f)
    }
}
