//! What is in a folder.

use std::ffi::OsString;
use std::fmt;
use std::fs::{FileType, Metadata};
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::vec;

use futures_core::Stream;

use super::error::context;
use super::names::from_here;
use super::operation::{OnPool, on_pool, spawn_on_pool};

/// How many entries a thread brings at once: to go to it costs as much as to read a hundred.
const BATCH: usize = 128;

/// What is in a folder, in no order, without `.` and `..`.
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
    let opened = on_pool(move || Ok(Batch::of(std::fs::read_dir(whole)?))).await;
    let batch = opened.map_err(|error| context("read the folder", path, error))?;
    Ok(ReadDir {
        path: path.into(),
        batch: Some(batch),
        next: None,
    })
}

/// A stream of what is in a folder, from [`read_dir`].
///
/// # Cancel safety
///
/// A `next` that is dropped loses nothing: the next one gives the entry.
#[must_use = "streams do nothing unless polled"]
pub struct ReadDir {
    path: Arc<Path>,
    /// None while a thread brings the next, and when all has been given.
    batch: Option<Batch>,
    next: Option<OnPool<Batch>>,
}

/// Some entries, and where there may be more.
struct Batch {
    entries: vec::IntoIter<io::Result<DirEntry>>,
    rest: Option<std::fs::ReadDir>,
}

impl Batch {
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
    /// The next entry, without a trait in scope. `None` at the end.
    ///
    /// # Errors
    ///
    /// Those of the system. What comes after one may be missing.
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
                        folder: self.path.clone(),
                        ..entry
                    }),
                    Err(error) => Err(context("read the folder", &self.path, error)),
                };
                return Poll::Ready(Some(entry));
            }
            let rest = batch.rest.take();
            self.batch = None;
            if let Some(rest) = rest {
                let next = spawn_on_pool(|| Batch::of(rest));
                let next = next.map_err(|error| context("read the folder", &self.path, error));
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

/// A file or folder in a folder.
#[derive(Clone)]
pub struct DirEntry {
    /// As it was given to [`read_dir`].
    folder: Arc<Path>,
    entry: Arc<std::fs::DirEntry>,
    /// If it could be had along with the name.
    file_type: Option<FileType>,
}

impl DirEntry {
    fn of(entry: std::fs::DirEntry) -> DirEntry {
        DirEntry {
            folder: Arc::from(Path::new("")),
            file_type: entry.file_type().ok(),
            entry: Arc::new(entry),
        }
    }

    /// Its path: that of the folder, as it was given to [`read_dir`], and its name.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.entry.file_name())
    }

    /// Its name, without a path.
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// Whether it's a file, a folder, a symbolic link or something else. It was asked for along
    /// with the name, and is there at once.
    ///
    /// # Errors
    ///
    /// Those of the system, with the [path](super#errors).
    pub async fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => self.ask(|entry| entry.file_type()).await,
        }
    }

    /// What the system knows of it; of a symbolic link itself, not of what it leads to.
    ///
    /// # Errors
    ///
    /// Those of the system, with the [path](super#errors).
    pub async fn metadata(&self) -> io::Result<Metadata> {
        self.ask(|entry| entry.metadata()).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&std::fs::DirEntry) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let entry = self.entry.clone();
        let asked = on_pool(move || what(&entry)).await;
        asked.map_err(|error| context("look at", &self.path(), error))
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}
