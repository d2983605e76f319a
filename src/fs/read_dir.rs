//! The entries of a directory.

use std::ffi::OsString;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_core::Stream;

use super::absolute::from_here;
use super::error::context;
use super::metadata::{FileType, Metadata};
use super::operation::{OnPool, on_pool, spawn_on_pool};
#[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
use super::system;

/// How many entries a thread reads at once. A context switch costs as much as about a hundred.
const BATCH: usize = 128;

/// Returns a stream of the entries of a directory, in arbitrary order, without `.` and `..`.
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
/// use futures::StreamExt;
/// use windlass::{block_on, fs};
///
/// block_on(async {
///     let mut names = Vec::new();
///     let mut entries = fs::read_dir(".").await?;
///     while let Some(entry) = entries.next().await {
///         names.push(entry?.file_name());
///     }
///     assert!(names.contains(&"Cargo.toml".into()));
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let path = path.as_ref();
    let whole = from_here(path);
    let opened = on_pool(move || Batch::first(&whole)).await;
    let batch = opened.map_err(|error| context("read the directory", path, error))?;
    Ok(ReadDir {
        path: path.into(),
        batch: Some(batch),
        next: None,
    })
}

/// A stream of the entries of a directory, from [`read_dir`].
///
/// # Cancel safety
///
/// Dropping the future of `next` loses no entry. The next call returns it.
#[must_use = "streams do nothing unless polled"]
pub struct ReadDir {
    path: Arc<Path>,
    /// `None` while a thread reads the next batch, and at the end.
    batch: Option<Batch>,
    next: Option<OnPool<Batch>>,
}

/// Some entries, and the iterator if there may be more.
struct Batch {
    entries: vec::IntoIter<io::Result<DirEntry>>,
    rest: Option<std::fs::ReadDir>,
}

impl Batch {
    fn first(path: &Path) -> io::Result<Batch> {
        #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
        if let Some(disk) = crate::sim::current::current_disk() {
            let entries = disk.read_dir(path)?.into_iter();
            let entries: Vec<_> = entries.map(|it| Ok(DirEntry::simulated(it))).collect();
            return Ok(Batch {
                entries: entries.into_iter(),
                rest: None,
            });
        }
        std::fs::read_dir(path).map(Batch::of)
    }

    fn of(mut rest: std::fs::ReadDir) -> Batch {
        let entry = |entry: io::Result<_>| entry.map(DirEntry::of);
        let entries: Vec<_> = rest.by_ref().take(BATCH).map(entry).collect();
        let is_all = entries.len() < BATCH;
        Batch {
            entries: entries.into_iter(),
            rest: (!is_all).then_some(rest),
        }
    }
}

impl ReadDir {
    /// Returns the next entry, or `None` at the end. Needs no trait in scope.
    ///
    /// # Errors
    ///
    /// Returns the error of the system. After an error, entries may be missing.
    pub async fn next_entry(&mut self) -> io::Result<Option<DirEntry>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx))
            .await
            .transpose()
    }
}

impl Stream for ReadDir {
    type Item = io::Result<DirEntry>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(next) = &mut self.next {
                self.batch = Some(ready!(Pin::new(next).poll(cx)));
                self.next = None;
            }
            let Some(batch) = &mut self.batch else {
                return Poll::Ready(None);
            };
            if let Some(entry) = batch.entries.next() {
                let entry = match entry {
                    Ok(entry) => Ok(DirEntry {
                        directory: self.path.clone(),
                        ..entry
                    }),
                    Err(error) => Err(context("read the directory", &self.path, error)),
                };
                return Poll::Ready(Some(entry));
            }
            let rest = batch.rest.take();
            self.batch = None;
            if let Some(rest) = rest {
                let next = spawn_on_pool(|| Batch::of(rest));
                let next = next.map_err(|error| context("read the directory", &self.path, error));
                self.next = Some(next?);
            }
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadDir")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// An entry of a directory.
#[derive(Clone)]
pub struct DirEntry {
    /// The path that was passed to [`read_dir`].
    directory: Arc<Path>,
    entry: Entry,
    /// Present if the system returned it with the name.
    file_type: Option<FileType>,
}

#[derive(Clone)]
enum Entry {
    System(Arc<std::fs::DirEntry>),
    /// The name of an entry of a simulated disk.
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    Simulated(OsString),
}

impl DirEntry {
    #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
    fn simulated((name, kind): (OsString, crate::sim::disk::Kind)) -> DirEntry {
        DirEntry {
            directory: Arc::from(Path::new("")),
            entry: Entry::Simulated(name),
            file_type: Some(kind.into()),
        }
    }

    fn of(entry: std::fs::DirEntry) -> DirEntry {
        DirEntry {
            directory: Arc::from(Path::new("")),
            file_type: entry.file_type().ok().map(FileType::from),
            entry: Entry::System(Arc::new(entry)),
        }
    }

    /// Returns the path that was passed to [`read_dir`], joined with the name of the entry.
    pub fn path(&self) -> PathBuf {
        self.directory.join(self.file_name())
    }

    /// Returns the name of the entry, without a path.
    pub fn file_name(&self) -> OsString {
        match &self.entry {
            Entry::System(entry) => entry.file_name(),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Entry::Simulated(name) => name.clone(),
        }
    }

    /// Returns whether the entry is a file, a directory, a symbolic link or something else.
    ///
    /// Most file systems return it with the name. Then this completes at once.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    pub async fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => Ok(self.metadata().await?.file_type()),
        }
    }

    /// Returns the metadata of the entry. Symbolic links are not followed.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let this = self.clone();
        let result = on_pool(move || match &this.entry {
            Entry::System(entry) => entry.metadata().map(Metadata::from),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Entry::Simulated(_) => system::symlink_metadata(&this.path()),
        })
        .await;
        result.map_err(|error| context("read the metadata of", &self.path(), error))
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Entry::System(entry) => entry.fmt(f),
            #[cfg(all(feature = "sim", target_os = "linux", not(windlass_portable)))]
            Entry::Simulated(_) => f.debug_tuple("DirEntry").field(&self.path()).finish(),
        }
    }
}
