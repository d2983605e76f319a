//! An open file.

use std::cell::Cell;
use std::fmt;
use std::fs::Permissions;
use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::AsyncWrite;

use super::OpenOptions;
use super::cached::{self, Target};
use super::handle::Handle;
use super::metadata::Metadata;
use super::open;
use super::operation::{MAX_BYTES, OnPool, OpFuture, Operation, on_pool, start};
use super::order::{Access, OperationGuard, OrderQueue};
use super::position::Position;
use super::simulation;
use windlass_reactor::is_driven;

/// The alignment of memory for `O_DIRECT` (bytes). No disk has larger blocks.
const ALIGNMENT: usize = 4096;

/// An open file.
///
/// There are two ways to read and write it:
///
/// * [`read_at`](File::read_at) and [`write_at`](File::write_at), at any offset. They take `&self`,
///   so any number may be in flight at once.
/// * [`AsyncRead`](futures_io::AsyncRead), [`AsyncWrite`] and [`AsyncSeek`](futures_io::AsyncSeek),
///   at the position of the open file description, one after the other. As in std, that position is
///   shared with duplicates of the file descriptor, including duplicates in other processes. **A
///   write copies the data into a buffer and returns. The file is written in the background.** The
///   next operation at the position, [`set_len`](File::set_len), [`sync_all`](File::sync_all),
///   [`close`](File::close) or `flush` returns its error, once. Use `futures::io::BufReader` and
///   `BufWriter` for small pieces, because each read and each write is an operation.
///
/// # Order
///
/// The operations of one `File` take effect in the order in which their futures are first polled.
/// Independent operations run at the same time. These are reads at offsets, writes at offsets with
/// disjoint ranges, and all of these beside a `sync_all` that started earlier. After its future is
/// dropped, an operation in flight still delays conflicting operations until it completes. A future
/// that is kept after its first poll but polled no further may block later operations.
///
/// # Closing
///
/// A dropped `File` is closed at once, on this thread. If an operation is in flight, its completion
/// closes the file. [`close`](File::close) waits for that, returns the error of an earlier write,
/// and keeps a slow close (on a network file system, or of a large deleted file) off the loop.
///
/// # Direct input and output
///
/// With `O_DIRECT` in [`custom_flags`](OpenOptions::custom_flags), offsets and lengths must be
/// multiples of the disk's block size. For `read_buf_at`, so must the spare capacity of the buffer,
/// and its address must be aligned. Operations that borrow their buffer (`read_at`, `write_at`, and
/// those at the position) use aligned memory of their own.
///
/// # Cancel safety
///
/// Operations own the memory that they read into and write from, so a future may be dropped or
/// leaked at any time. Each operation documents the effects that it may have had by then.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass::{block_on, fs::{self, File}};
///
/// # let folder = std::env::temp_dir().join(format!("windlass-file-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("rope");
/// block_on(async {
///     let mut file = File::create(&path).await?;
///     file.write_all(b"ahoy, ahoy").await?;
///     file.flush().await?;
///
///     let mut file = File::open(&path).await?;
///     let mut word = [0; 4];
///     let n = file.read_at(&mut word, 6).await?;
///     assert_eq!(&word[..n], b"ahoy");
///     let mut text = String::new();
///     file.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy, ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    /// `None` once the file is closed.
    pub(super) handle: Option<Arc<Handle>>,
    pub(super) order: Arc<OrderQueue>,
    pub(super) cursor: Cursor,
    /// From `taken` on, the bytes that a thread has read for later calls. The position is behind
    /// them. An empty buffer is kept for its memory.
    pub(super) buffer: Vec<u8>,
    pub(super) taken: usize,
    /// Whether the file system supports reads of cached data.
    pub(super) can_read_cached: Cell<bool>,
}

/// The operation in flight at the position, apart from writes, which run in the background.
pub(super) enum Cursor {
    Idle,
    Reading(OpFuture),
    Seeking(SeekFrom, OnPool<io::Result<u64>>),
    /// Holds the result of an earlier write.
    Closing(OpFuture, io::Result<()>),
}

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file is closed.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Opens a file for writing. Creates the file, or empties it if it exists.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file may have been created or emptied. It is closed.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .await
    }

    /// Creates a file for reading and writing, and fails with `AlreadyExists` if it exists.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file may have been created. It is closed.
    pub async fn create_new(path: impl AsRef<Path>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        options.open(path).await
    }

    /// Returns [`OpenOptions::new`], and saves an import.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Opens a file as `OpenOptions::open` does. The caller adds the path to errors.
    pub(super) async fn open_with(options: &OpenOptions, path: &Path) -> io::Result<File> {
        options.check(path)?;
        Ok(File::new(open::open(options, path).await?))
    }

    pub(super) fn new(handle: Handle) -> File {
        File {
            can_read_cached: Cell::new(
                !(handle.is_stream || handle.is_direct || handle.is_simulated()),
            ),
            order: handle.order.clone(),
            handle: Some(Arc::new(handle)),
            cursor: Cursor::Idle,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Reads at an offset, up to 256 KiB, without moving the position.
    ///
    /// The read is short only at the end of the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the buffer is unchanged.
    pub async fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = buf.len().min(MAX_BYTES);
        let buf = &mut buf[..wanted];
        let at = Position::Offset(offset);
        let (cached, guard) = self.read_cached(Target::Slice(buf), at).await;
        if cached.is_complete {
            return Ok(cached.bytes);
        }
        let rest = &mut buf[cached.bytes..];
        let at = at.after(cached.bytes);
        let (room, start) = self.room(Vec::new(), rest.len());
        let (result, bytes) = self.read_uncached(guard, room, rest.len(), at).await;
        let result = cached.and(result);
        if let Ok(n) = result {
            let more = n - cached.bytes;
            rest[..more].copy_from_slice(&bytes[start.into()..][..more]);
        }
        result
    }

    /// Reads as [`read_at`](File::read_at) does, but takes the buffer and returns it, which saves a
    /// copy.
    ///
    /// The bytes are appended, within the spare capacity of the buffer.
    ///
    /// ```
    /// use windlass::{block_on, fs::File};
    ///
    /// block_on(async {
    ///     let manifest = File::open("Cargo.toml").await?;
    ///     let (read, text) = manifest.read_buf_at(Vec::with_capacity(1), 0).await;
    ///     assert_eq!((read?, text), (1, b"[".to_vec()));
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`read_at`](File::read_at), together with the buffer. The buffer is
    /// lost if the reactor stops turning, or if the system refuses a thread.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the buffer is lost.
    pub async fn read_buf_at(&self, buf: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        let room = buf.capacity() - buf.len();
        self.read_buf(buf, room, Position::Offset(offset)).await
    }

    /// Appends up to `wanted` bytes to the buffer.
    pub(super) async fn read_buf(
        &self,
        mut buffer: Vec<u8>,
        wanted: usize,
        at: Position,
    ) -> (io::Result<usize>, Vec<u8>) {
        let wanted = wanted.min(MAX_BYTES);
        let target = Target::Spare(&mut buffer, wanted);
        let (cached, guard) = self.read_cached(target, at).await;
        if cached.is_complete {
            return (Ok(cached.bytes), buffer);
        }
        let (wanted, at) = (wanted - cached.bytes, at.after(cached.bytes));
        let (result, buffer) = self.read_uncached(guard, buffer, wanted, at).await;
        (cached.and(result), buffer)
    }

    async fn read_uncached(
        &self,
        guard: Option<OperationGuard>,
        buffer: Vec<u8>,
        wanted: usize,
        at: Position,
    ) -> (io::Result<usize>, Vec<u8>) {
        let wanted = wanted.min(MAX_BYTES);
        let guard = guard.map_or_else(|| self.guard_at(at, wanted, Access::Read), Ok);
        let file = match guard {
            Ok(guard) => guard,
            Err(error) => return (Err(error), buffer),
        };
        if wanted == 0 || must_probe(&file, at) {
            // A read of zero bytes completes at once, and returns any error of the file descriptor.
            let probed = file.read(&mut [], at);
            if wanted == 0 || probed.is_err() {
                return (probed, buffer);
            }
        }
        if file.waits() {
            if let Err(error) = file.wait_turn().await {
                return (Err(error), buffer);
            }
        }
        let (result, operation) = start(Operation::Read {
            file,
            buffer,
            wanted,
            at,
        })
        .await;
        (result, operation.into_buffer())
    }

    /// Writes up to 256 KiB of the buffer at an offset, without moving the position. Returns the
    /// number of bytes.
    ///
    /// Linux writes to the end of a file that was opened to append.
    ///
    /// # Errors
    ///
    /// Returns the error of the system, which is `StorageFull` on a full disk.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all of the write may happen, a first part, or none of it. Later
    /// operations of this `File` that conflict with it wait until it has completed.
    pub async fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let buf = &buf[..buf.len().min(MAX_BYTES)];
        let (mut bytes, start) = self.room(Vec::new(), buf.len());
        bytes.extend_from_slice(buf);
        let at = Position::Offset(offset);
        self.write_buf(bytes, start, at, false).await.0
    }

    /// Writes as [`write_at`](File::write_at) does, but takes the buffer and returns it, which
    /// saves a copy.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`write_at`](File::write_at), together with the buffer. The buffer is
    /// lost if the reactor stops turning, or if the system refuses a thread.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`write_at`](File::write_at). The buffer is lost.
    pub async fn write_buf_at(&self, buf: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        self.write_buf(buf, 0, Position::Offset(offset), false)
            .await
    }

    /// Writes a first part of the buffer from `from` on, or all of it.
    pub(super) async fn write_buf(
        &self,
        buffer: Vec<u8>,
        from: u16,
        at: Position,
        all: bool,
    ) -> (io::Result<usize>, Vec<u8>) {
        let bytes = buffer.len() - usize::from(from);
        let bytes = if all { bytes } else { bytes.min(MAX_BYTES) };
        let file = match self.guard_at(at, bytes, Access::Write) {
            Ok(guard) => guard,
            Err(error) => return (Err(error), buffer),
        };
        if bytes == 0 || must_probe(&file, at) {
            let probed = file.write(&[], at);
            if bytes == 0 || probed.is_err() {
                return (probed, buffer);
            }
        }
        if file.waits() {
            if let Err(error) = file.wait_turn().await {
                return (Err(error), buffer);
            }
        }
        let (result, operation) = start(Operation::Write {
            file,
            buffer,
            at,
            all,
            in_background: false,
            from,
            done: 0,
        })
        .await;
        (result, operation.into_buffer())
    }

    /// Waits until all earlier writes are on the disk, with the file's length and times. This
    /// includes background writes.
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier write at the position, unless another operation has returned
    /// it, or an error of the system. After an error, data written since the last call may be lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may continue. The next operation returns the error
    /// of an earlier write.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// Waits for the disk as [`sync_all`](File::sync_all) does, but skips metadata that is
    /// unnecessary for reading the data, such as times.
    ///
    /// # Errors
    ///
    /// As [`sync_all`](File::sync_all).
    ///
    /// # Cancel safety
    ///
    /// As [`sync_all`](File::sync_all).
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        let file = self.guard(Access::Sync)?;
        file.wait_turn().await?;
        let (result, _) = start(Operation::Sync { file, data_only }).await;
        self.order.take_error()?;
        result.map(drop)
    }

    /// Returns the metadata of the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let now = poll_fn(|cx| Poll::Ready(self.try_metadata(cx))).await;
        if let Some(metadata) = now {
            return metadata;
        }
        self.on_pool(Access::READ_ALL, |file| file.metadata()).await
    }

    /// Reads the metadata on this thread, unless an earlier operation must complete before, or the
    /// file system may have to query a server.
    fn try_metadata(&self, cx: &mut Context<'_>) -> Option<io::Result<Metadata>> {
        let handle = self.handle.as_ref()?;
        let is_ready = is_driven() && !handle.is_simulated();
        let is_now = is_ready && self.order.would_start(&Access::READ_ALL) && handle.is_local();
        (is_now && cached::try_admit(cx, 0)).then(|| handle.metadata())
    }

    /// Truncates the file, or extends it with zeros, without moving the position.
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier write at the position, or an error of the system.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may or may not happen.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let done = self.on_pool(Access::All, move |file| file.set_len(len));
        let done = done.await;
        self.order.take_error()?;
        done
    }

    /// Changes the permissions of the file.
    ///
    /// # Errors
    ///
    /// Returns the error of the system.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the operation may or may not happen.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let set = move |file: &Handle| file.set_permissions(permissions);
        self.on_pool(Access::All, set).await
    }

    /// Completes background writes and closes the file.
    ///
    /// When this returns, the file descriptor is closed. So the file may be executed, and its locks
    /// are released. It also waits for dropped operations, except for a read from a pipe or a
    /// terminal, which may never complete.
    ///
    /// Later operations fail, and a second `close` has no effect.
    ///
    /// ```
    /// use futures::AsyncWriteExt;
    /// use windlass::{block_on, fs::File};
    ///
    /// # let path = std::env::temp_dir().join(format!("windlass-close-{}", std::process::id()));
    /// block_on(async {
    ///     let mut file = File::create(&path).await?;
    ///     file.write_all(b"ahoy").await?;
    ///     file.close().await
    /// })?;
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier write at the position, or an error of the system. The file
    /// is closed even then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the file may still be open. The next `close` completes it.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_close(cx)).await
    }

    /// Converts into std's file, which is `Send`. It waits for background writes, and the position
    /// is behind the bytes that the caller has read or written.
    ///
    /// # Errors
    ///
    /// Returns the error of an earlier write at the position, or an error of the system. The file
    /// is closed then.
    pub async fn into_std(mut self) -> io::Result<std::fs::File> {
        poll_fn(|cx| self.poll_idle(cx)).await?;
        self.seek_back();
        let handle = self.handle.take().ok_or_else(closed)?;
        if handle.is_simulated() {
            let text = "a simulated file can't become a file of std";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        match Arc::try_unwrap(handle) {
            Ok(handle) => Ok(handle.into_file()),
            Err(shared) => shared.try_clone(), // shared with an abandoned read
        }
    }

    /// Takes the file out if the caller may close it on this thread. That requires that all
    /// operations have completed and that the close needs no server. io_uring closes such files on
    /// this thread, too, one turn later.
    pub(super) fn take_if_local(&mut self) -> Option<std::fs::File> {
        let handle = self.handle.take_if(|it| it.is_local())?;
        match Arc::try_unwrap(handle) {
            Ok(handle) => Some(handle.into_file()),
            Err(shared) => {
                self.handle = Some(shared);
                None
            }
        }
    }

    /// Returns the start of the file.
    pub(super) fn beginning(&self) -> Position {
        match &self.handle {
            Some(handle) if handle.is_stream => Position::Cursor,
            _ => Position::Offset(0),
        }
    }

    pub(super) fn handle(&self) -> io::Result<&Arc<Handle>> {
        self.handle.as_ref().ok_or_else(closed)
    }

    pub(super) fn guard(&self, access: Access) -> io::Result<OperationGuard> {
        Ok(OperationGuard::new(self.handle()?, access))
    }

    /// Returns the guard of an operation on this number of bytes.
    #[inline]
    pub(super) fn guard_at(
        &self,
        at: Position,
        bytes: usize,
        access: impl FnOnce(Range<u64>) -> Access,
    ) -> io::Result<OperationGuard> {
        let handle = self.handle()?;
        if handle.is_stream || bytes == 0 {
            return Ok(OperationGuard::without_order(handle));
        }
        let access = match at {
            // On Windows, operations at offsets move the position for a moment.
            _ if cfg!(windows) => Access::All,
            Position::Cursor => Access::All,
            Position::Offset(offset) => {
                let access = access(offset..offset.saturating_add(bytes as u64));
                match access {
                    Access::Write(_) if handle.appends => Access::All,
                    access => access,
                }
            }
        };
        self.guard(access)
    }

    pub(super) async fn on_pool<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnOnce(&Handle) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let handle = self.handle()?;
        let file = match handle.is_stream {
            true => OperationGuard::without_order(handle),
            false => self.guard(access)?,
        };
        file.wait_turn().await?;
        if let Some(host) = simulation::current() {
            return OnPool::Simulated(host.spawn_on(file, work)).await;
        }
        // The operation leaves its queue on the thread, before its result arrives.
        on_pool(move || work(&file)).await
    }

    /// Empties the buffer and makes room for this number of bytes. Returns where they start.
    pub(super) fn room(&self, mut buffer: Vec<u8>, bytes: usize) -> (Vec<u8>, u16) {
        buffer.clear();
        let is_direct = self.handle.as_ref().is_some_and(|it| it.is_direct);
        if !is_direct {
            buffer.reserve(bytes);
            return (buffer, 0);
        }
        buffer.reserve(bytes + ALIGNMENT);
        let start = buffer.as_ptr().align_offset(ALIGNMENT);
        buffer.resize(start, 0);
        (buffer, start as u16)
    }
}

#[cold]
pub(super) fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the file is closed")
}

/// Returns whether an empty read or write must check the offset first. A pipe must keep its bytes
/// if the operation fails, and io_uring has other errors for an offset beyond all files.
fn must_probe(handle: &Handle, at: Position) -> bool {
    match at {
        Position::Offset(offset) => handle.is_stream || offset > i64::MAX as u64,
        Position::Cursor => false,
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::new(Handle::new(file))
    }
}

/// # Panics
///
/// Panics if the file was [closed](File::close).
#[cfg(unix)]
impl std::os::fd::AsFd for File {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_ref().expect("the file is closed").as_fd()
    }
}

/// # Panics
///
/// Panics if the file was [closed](File::close).
#[cfg(unix)]
impl std::os::fd::AsRawFd for File {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.handle {
            Some(handle) => (***handle).fmt(f),
            None => f.write_str("File { closed }"),
        }
    }
}
