//! A directory that paths cannot leave.

use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::context;
use super::metadata::Metadata;
use super::operation::on_pool;
#[cfg(unix)]
use super::simulation::is_simulated;
use super::system;
use super::{File, OpenOptions};
#[cfg(unix)]
use beneath::Dir;

/// A directory that paths cannot leave, for example the files of a web server.
///
/// A path is resolved below the directory. It may contain `..` and symbolic links as long as it
/// leads to a file or directory below, or to the directory itself. Any other path is not found,
/// even if another process replaces a part of it by a symbolic link meanwhile. Neither are an empty
/// and an absolute path, wherever they lead. So paths may come from untrusted clients. Mount points
/// below the directory are followed.
///
/// Pipes, sockets and devices are an error, and nothing waits for their peers. The system opens
/// them for a moment, which lets a program continue that waits for a reader of a pipe.
///
/// On Linux, a path that the system has in memory is opened at once (`openat2` with
/// `RESOLVE_BENEATH`). A thread resolves other paths. A path that leaves the directory on its way
/// into the directory is slower than others for that reason. On Windows, a thread compares the
/// resolved path with that of the directory, and does not notice a change before the file is
/// opened.
///
/// The directory must keep its path. Clones are cheap.
///
/// # Examples
///
/// ```
/// use futures::AsyncReadExt;
/// use windlass::{block_on, fs::Root};
///
/// # let folder = std::env::temp_dir().join(format!("windlass-root-{}", std::process::id()));
/// # std::fs::create_dir_all(folder.join("public"))?;
/// # std::fs::write(folder.join("key"), "secret")?;
/// # std::fs::write(folder.join("public/rope"), "ahoy")?;
/// # let public = folder.join("public");
/// block_on(async {
///     let root = Root::open(&public).await?;
///     let mut text = String::new();
///     root.open_file("rope").await?.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy");
///
///     let error = root.open_file("../key").await.unwrap_err();
///     assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
///     std::io::Result::Ok(())
/// })?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Root {
    inner: Arc<Inner>,
}

struct Inner {
    /// Absolute, without symbolic links.
    path: PathBuf,
    /// `None` if the directory is simulated.
    #[cfg(unix)]
    dir: Option<Dir>,
}

impl Root {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// Returns `NotADirectory` if the path leads to something else, and the error of the system,
    /// with the [path](crate::fs#errors).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<Root> {
        let path = path.as_ref();
        let whole = super::absolute::from_here(path);
        let opened = on_pool(move || Inner::open(&whole)).await;
        let inner = opened.map_err(|error| context("open the directory", path, error))?;
        Ok(Root {
            inner: Arc::new(inner),
        })
    }

    /// Returns the absolute path of the directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Opens a file or a directory for reading.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the path leads out of the directory, `InvalidInput` if it leads to a
    /// pipe, a socket or a device, and the error of the system, with the [path](crate::fs#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file is closed.
    pub async fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let path = path.as_ref();
        let opened = self.open_below(path).await;
        opened.map_err(|error| context("open", path, error))
    }

    /// Returns the metadata of a file or directory. Symbolic links are followed.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the path leads out of the directory, and the error of the system, with
    /// the [path](crate::fs#errors).
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any time.
    pub async fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        let read = self.metadata_below(path).await;
        read.map_err(|error| context("read the metadata of", path, error))
    }

    async fn open_below(&self, path: &Path) -> io::Result<File> {
        #[cfg(unix)]
        if let Some(dir) = &self.inner.dir {
            if let Some(opened) = dir.open_cached(path).await {
                return opened.map(File::new);
            }
            let (inner, path) = (self.inner.clone(), path.to_owned());
            return on_pool(move || inner.open_file(&path)).await.map(File::new);
        }
        let (inner, path) = (self.inner.clone(), path.to_owned());
        let found = on_pool(move || inner.resolve(&path)).await?;
        File::open_with(&options(), &found).await
    }

    async fn metadata_below(&self, path: &Path) -> io::Result<Metadata> {
        #[cfg(unix)]
        if let Some(dir) = &self.inner.dir {
            if let Some(metadata) = dir.cached_metadata(path).await {
                return metadata;
            }
        }
        let (inner, path) = (self.inner.clone(), path.to_owned());
        on_pool(move || inner.metadata(&path)).await
    }
}

impl Inner {
    fn open(path: &Path) -> io::Result<Inner> {
        let path = system::canonicalize(path)?;
        if !system::metadata(&path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Inner {
            #[cfg(unix)]
            dir: match is_simulated() {
                true => None,
                false => Some(Dir::open(&path)?),
            },
            path,
        })
    }

    /// Returns the absolute path, without symbolic links.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let starts_elsewhere = |it| matches!(it, Component::Prefix(_) | Component::RootDir);
        // Looking up a share of Windows would log in to its server.
        if path.as_os_str().is_empty() || path.components().any(starts_elsewhere) {
            return Err(io::ErrorKind::NotFound.into());
        }
        match system::canonicalize(&self.path.join(path)) {
            Ok(found) if found.starts_with(&self.path) => Ok(found),
            Err(error) if !self.leaves(path) => Err(error),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns whether a path that fails to resolve leaves the directory before. Its error would
    /// reveal which files exist outside.
    fn leaves(&self, path: &Path) -> bool {
        let mut first_part = self.path.clone();
        for name in path {
            first_part.push(name);
            match system::canonicalize(&first_part) {
                Ok(found) if found.starts_with(&self.path) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    #[cfg(unix)]
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let found = self.resolve(path)?;
        let metadata = system::symlink_metadata(&found)?;
        let Some(dir) = &self.dir else {
            return Ok(metadata);
        };
        let below = found.strip_prefix(&self.path).map_err(io::Error::other)?;
        // Another process may have replaced a directory by a symbolic link meanwhile.
        match dir.is_file(below, &metadata)? {
            true => Ok(metadata),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    #[cfg(not(unix))]
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        system::symlink_metadata(&self.resolve(path)?)
    }

    /// Opens a file whose path is not cached, or leaves the directory on its way.
    #[cfg(unix)]
    fn open_file(&self, path: &Path) -> io::Result<super::handle::Handle> {
        let found = self.resolve(path)?;
        let below = found.strip_prefix(&self.path).map_err(io::Error::other)?;
        let dir = self.dir.as_ref().ok_or(io::ErrorKind::NotFound)?;
        dir.open_resolved(below)
    }
}

/// The options of files below a root. Windows opens directories only with the flag.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(windows)]
    {
        const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
        options.system_flags(FILE_FLAG_BACKUP_SEMANTICS);
    }
    options
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Root").field(&self.inner.path).finish()
    }
}

#[cfg(unix)]
mod beneath {
    use std::ffi::OsStr;
    use std::io;
    #[cfg(target_os = "linux")]
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, fcntl_setfl, open, openat, statat};
    use rustix::io::Errno;

    use super::super::cached::special;
    use super::super::handle::Handle;
    use super::super::metadata::Metadata;
    #[cfg(target_os = "linux")]
    use super::super::platform::{FileSystem, file_system};
    use super::options;

    /// The flags by which a directory is opened only to resolve names in it.
    #[cfg(target_os = "linux")]
    const DIR: OFlags = OFlags::PATH;
    #[cfg(not(target_os = "linux"))]
    const DIR: OFlags = OFlags::RDONLY;

    pub(super) struct Dir {
        fd: OwnedFd,
        /// The number of the device. No other file system gets it while the directory is open.
        #[cfg(target_os = "linux")]
        device: u64,
        #[cfg(target_os = "linux")]
        file_system: FileSystem,
    }

    impl Dir {
        pub(super) fn open(path: &Path) -> io::Result<Dir> {
            let flags = DIR | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = open(path, flags, Mode::empty())?;
            Ok(Dir {
                #[cfg(target_os = "linux")]
                device: rustix::fs::fstat(&fd)?.st_dev,
                #[cfg(target_os = "linux")]
                file_system: file_system(&fd),
                fd,
            })
        }

        /// Opens a cached path at once. Returns `None` if a thread must open it.
        #[cfg(target_os = "linux")]
        pub(super) async fn open_cached(&self, path: &Path) -> Option<io::Result<Handle>> {
            use super::super::cached::{admit_lookup, open_below};

            admit_lookup(Path::new("/")).await?;
            let opened = open_below(self.fd.as_fd(), path)?;
            Some(opened.map(|(file, device)| {
                let handle = options().handle(file);
                if self.device == device {
                    let _ = handle.file_system.set(self.file_system);
                }
                handle
            }))
        }

        #[cfg(not(target_os = "linux"))]
        pub(super) async fn open_cached(&self, _: &Path) -> Option<io::Result<Handle>> {
            None
        }

        /// Returns the metadata of a cached path. Returns `None` if a thread must read it.
        #[cfg(target_os = "linux")]
        pub(super) async fn cached_metadata(&self, path: &Path) -> Option<io::Result<Metadata>> {
            use super::super::cached::{admit_lookup, look_up, metadata_of};
            use rustix::fs::ResolveFlags;

            admit_lookup(Path::new("/")).await?;
            let how = ResolveFlags::BENEATH | ResolveFlags::CACHED;
            let found = look_up(self.fd.as_fd(), how, OFlags::empty(), path);
            metadata_of(found, Some((self.device, self.file_system)))
        }

        #[cfg(not(target_os = "linux"))]
        pub(super) async fn cached_metadata(&self, _: &Path) -> Option<io::Result<Metadata>> {
            None
        }

        /// Opens a file by a path without symbolic links. A link that another process has put there
        /// meanwhile is an error.
        pub(super) fn open_resolved(&self, below: &Path) -> io::Result<Handle> {
            let (dir, name) = self.open_parent(below)?;
            let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let kind = FileType::from_raw_mode(found.st_mode);
            if matches!(kind, FileType::Symlink) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if !matches!(kind, FileType::RegularFile | FileType::Directory) {
                return Err(special());
            }
            let file = open_regular(&dir, name)?;
            fcntl_setfl(&file, OFlags::RDONLY)?;
            let handle = Handle::new(file.into());
            match handle.is_stream {
                true => Err(special()),
                false => Ok(handle),
            }
        }

        /// Returns whether a path without symbolic links leads to the file of the metadata.
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        pub(super) fn is_file(&self, below: &Path, metadata: &Metadata) -> io::Result<bool> {
            let (dir, name) = self.open_parent(below)?;
            let found = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let found = (found.st_dev as u64, found.st_ino as u64);
            Ok(found == (metadata.dev(), metadata.ino()) && !metadata.is_symlink())
        }

        /// Opens the directory of a path without symbolic links, and returns the last name.
        fn open_parent<'a>(&self, below: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
            let flags = DIR | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut dir = self.fd.try_clone()?;
            let parent = below.parent().unwrap_or(Path::new(""));
            for name in parent {
                dir = openat(&dir, name, flags, Mode::empty())?;
            }
            Ok((dir, below.file_name().unwrap_or(".".as_ref())))
        }
    }

    /// Opens a file or directory, and doesn't wait if it has become a pipe. Waits while another
    /// process has a lease, which the system ends after a time.
    fn open_regular(dir: &OwnedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
        const RETRY: Duration = Duration::from_millis(10);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
        loop {
            match openat(dir, name, flags | OFlags::NONBLOCK, Mode::empty()) {
                Err(Errno::AGAIN) => thread::sleep(RETRY),
                opened => return opened,
            }
        }
    }
}
