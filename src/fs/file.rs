//! An open file.

use std::cell::Cell;
use std::fmt;
use std::fs::{Metadata, Permissions};
use std::future::poll_fn;
use std::io::{self, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::AsyncWrite;

use super::OpenOptions;
use super::cached::{self, Cached, Target};
use super::line::{Access, Line, Ticket};
use super::open;
use super::operation::{Doing, Handle, MOST_BYTES, OnPool, Operation, Place, on_pool, start};
use super::platform;

/// Memory for `O_DIRECT` is aligned to so many bytes. No disk has larger blocks.
const ALIGNMENT: usize = 4096;

/// An open file.
///
/// Its bytes are read and written in two ways:
///
/// * [`read_at`](File::read_at) and [`write_at`](File::write_at), at any offset. They take `&self`:
///   any number may be in flight at once.
/// * [`AsyncRead`](futures_io::AsyncRead), [`AsyncWrite`] and
///   [`AsyncSeek`](futures_io::AsyncSeek), at the position of the open file description, one after
///   the other. As with std, that position is shared with duplicates of the descriptor,
///   also those of other processes. **What is written so is taken into a buffer, and written while
///   the caller goes on.** The next operation at the position, [`set_len`](File::set_len),
///   [`sync_all`](File::sync_all), [`close`](File::close) or `flush` returns its error, once. Small
///   pieces are for `futures::io::BufReader` and `BufWriter`, since each read and each write is an
///   operation.
///
/// # Order
///
/// The operations of one `File` take effect in the order in which their futures are first polled.
/// Those that can't disturb each other run at the same time: reads at offsets, writes at offsets
/// whose ranges don't overlap, and all of these beside a `sync_all` that began earlier. A future
/// that is dropped holds up nothing. One that was polled and is then kept without being polled may
/// hold up those behind it.
///
/// # Closing
///
/// A `File` that is dropped is closed at once, on this thread, unless an operation is in flight:
/// then the end of that operation closes it. [`close`](File::close) waits for that end, returns the
/// error of an earlier write, and keeps what closing may cost (a network file system, a large file
/// without a name) off the loop.
///
/// # Direct input and output
///
/// With `O_DIRECT` in [`custom_flags`](OpenOptions::custom_flags), offsets and lengths have to be
/// multiples of the disk's block, and so has the capacity that `read_buf_at` may fill, whose
/// address has to be aligned as well. The operations that borrow their buffer (`read_at`,
/// `write_at`, and those at the position) align memory of their own.
///
/// # Cancel safety
///
/// Operations own the memory that they read into and write from, so a future may be dropped, or
/// leaked, at any time. Each operation documents what it may have done by then.
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
    /// None once it is closed.
    pub(super) handle: Option<Arc<Handle>>,
    pub(super) line: Arc<Line>,
    pub(super) cursor: Cursor,
    /// What a read on a thread has brought and nobody has taken yet: from `taken` on. The position
    /// is behind it. Otherwise the buffer is kept for its memory.
    pub(super) buffer: Vec<u8>,
    pub(super) taken: usize,
    /// Reads may be tried without waiting.
    pub(super) can_read_cached: Cell<bool>,
}

/// What is in flight at the position. Writes are not here, since nobody awaits them.
pub(super) enum Cursor {
    Rests,
    Reads(Doing),
    Seeks(SeekFrom, OnPool<io::Result<u64>>),
    /// With the error of an earlier write.
    Closes(Doing, io::Result<()>),
}

impl File {
    /// Opens a file to read it.
    ///
    /// # Errors
    ///
    /// Those of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// When dropped, it's closed again.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Makes a file to write it. If it's there, it's emptied.
    ///
    /// # Errors
    ///
    /// Those of the system, with the [path](super#errors).
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may have been made or emptied. It's closed again.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .await
    }

    /// [`OpenOptions::new`], without another import.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Its errors don't name the path.
    pub(super) async fn open_with(options: &OpenOptions, path: &Path) -> io::Result<File> {
        options.check(path)?;
        Ok(File::new(open::open(options, path).await?))
    }

    fn new(handle: Handle) -> File {
        File {
            can_read_cached: Cell::new(!handle.is_stream && !handle.is_direct),
            line: handle.line.clone(),
            handle: Some(Arc::new(handle)),
            cursor: Cursor::Rests,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Reads at an offset, as much as the file has there and the buffer can take: at most 256 KiB,
    /// and nothing at the file's end. The position stays where it is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the buffer is as it was.
    pub async fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let wanted = buf.len().min(MOST_BYTES);
        let buf = &mut buf[..wanted];
        let cached = self
            .read_cached(Target::Slice(buf), Place::Offset(offset))
            .await;
        if cached.is_complete {
            return Ok(cached.bytes);
        }
        let rest = &mut buf[cached.bytes..];
        let at = Place::Offset(offset).after(cached.bytes);
        let (room, start) = self.room(Vec::new(), rest.len());
        let (result, bytes) = self.read_uncached(room, rest.len(), at).await;
        let result = cached.and(result);
        if let Ok(n) = result {
            let more = n - cached.bytes;
            rest[..more].copy_from_slice(&bytes[start.into()..][..more]);
        }
        result
    }

    /// As [`read_at`](File::read_at), but without copying: the buffer goes along, and comes back
    /// with what was read behind what it had, in the capacity that it has to spare.
    ///
    /// ```
    /// use windlass::{block_on, fs::File};
    ///
    /// block_on(async {
    ///     let manifest = File::open("Cargo.toml").await?;
    ///     let (read, text) = manifest.read_buf_at(Vec::with_capacity(9), 0).await;
    ///     assert_eq!((read?, text), (9, b"[package]".to_vec()));
    ///     std::io::Result::Ok(())
    /// })?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`read_at`](File::read_at). The buffer comes back all the same,
    /// but for where nothing turns any more, or no thread can be had.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the buffer is lost, with what it had.
    pub async fn read_buf_at(&self, buf: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        let room = buf.capacity() - buf.len();
        self.read_buf(buf, room, Place::Offset(offset)).await
    }

    /// Reads behind what the buffer has, so many bytes at most.
    pub(super) async fn read_buf(
        &self,
        mut buffer: Vec<u8>,
        wanted: usize,
        at: Place,
    ) -> (io::Result<usize>, Vec<u8>) {
        let wanted = wanted.min(MOST_BYTES);
        let cached = self
            .read_cached(Target::Spare(&mut buffer, wanted), at)
            .await;
        if cached.is_complete {
            return (Ok(cached.bytes), buffer);
        }
        let (wanted, at) = (wanted - cached.bytes, at.after(cached.bytes));
        let (result, buffer) = self.read_uncached(buffer, wanted, at).await;
        (cached.and(result), buffer)
    }

    /// Reads what is in memory, unless an earlier operation has to end before. So it needs no place
    /// in the line.
    async fn read_cached(&self, mut target: Target<'_>, at: Place) -> Cached {
        poll_fn(|cx| Poll::Ready(self.try_read_cached(cx, &mut target, at))).await
    }

    #[inline]
    fn try_read_cached(&self, cx: &mut Context<'_>, target: &mut Target<'_>, at: Place) -> Cached {
        let (Some(handle), Place::Offset(offset)) = (&self.handle, at) else {
            return Cached::default();
        };
        let wanted = target.wanted();
        let end = offset.saturating_add(wanted as u64);
        let mut can = self.can_read_cached.get();
        if !can || wanted == 0 || end > i64::MAX as u64 {
            return Cached::default();
        }
        if !self.line.is_free_for(&Access::Read(offset..end)) {
            return Cached::default();
        }
        let cached = cached::read_at(cx, handle, target, offset, &mut can);
        self.can_read_cached.set(can);
        cached
    }

    async fn read_uncached(
        &self,
        buffer: Vec<u8>,
        wanted: usize,
        at: Place,
    ) -> (io::Result<usize>, Vec<u8>) {
        let wanted = wanted.min(MOST_BYTES);
        let file = match self.ticket_at(at, wanted, Access::Read) {
            Ok(ticket) => ticket,
            Err(error) => return (Err(error), buffer),
        };
        if wanted == 0 || must_probe(&file, at) {
            // With nothing to read it can't wait, and says what is wrong with the descriptor.
            let probed = platform::read(&file, &mut [], at);
            if wanted == 0 || probed.is_err() {
                return (probed, buffer);
            }
        }
        if file.waits() {
            if let Err(error) = file.turn().await {
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

    /// Writes at an offset, at most 256 KiB of the buffer, and returns how many bytes. The position
    /// stays where it is. In a file opened to append, Linux writes at its end.
    ///
    /// # Errors
    ///
    /// Those of the system; `StorageFull` for a full disk.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the write may have been done, in part or whole, or may still be done. Later
    /// operations of this `File` that it concerns wait for that. To know, await it.
    pub async fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let buf = &buf[..buf.len().min(MOST_BYTES)];
        let (mut bytes, start) = self.room(Vec::new(), buf.len());
        bytes.extend_from_slice(buf);
        let at = Place::Offset(offset);
        self.write_buf(bytes, start, at, false).await.0
    }

    /// As [`write_at`](File::write_at), but without copying: the buffer goes along and comes back.
    ///
    /// # Errors
    ///
    /// As [`write_at`](File::write_at). The buffer comes back all the same,
    /// but for where nothing turns any more, or no thread can be had.
    ///
    /// # Cancel safety
    ///
    /// As [`write_at`](File::write_at), and the buffer is lost.
    pub async fn write_buf_at(&self, buf: Vec<u8>, offset: u64) -> (io::Result<usize>, Vec<u8>) {
        self.write_buf(buf, 0, Place::Offset(offset), false).await
    }

    /// Writes the buffer from `start` on: a first part, or all of it.
    pub(super) async fn write_buf(
        &self,
        buffer: Vec<u8>,
        from: u16,
        at: Place,
        all: bool,
    ) -> (io::Result<usize>, Vec<u8>) {
        let bytes = buffer.len() - usize::from(from);
        let bytes = if all { bytes } else { bytes.min(MOST_BYTES) };
        let file = match self.ticket_at(at, bytes, Access::Write) {
            Ok(ticket) => ticket,
            Err(error) => return (Err(error), buffer),
        };
        if bytes == 0 || must_probe(&file, at) {
            let probed = platform::write(&file, &[], at);
            if bytes == 0 || probed.is_err() {
                return (probed, buffer);
            }
        }
        if file.waits() {
            if let Err(error) = file.turn().await {
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

    /// Waits until all that was written is on the disk, the file's length and times included. That
    /// is all that was accepted before, at the position too.
    ///
    /// # Errors
    ///
    /// That of an earlier write at the position, if no operation has returned it yet, and those of
    /// the system. After one, what was written since the last call may be lost.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may go on. The error of an earlier write is for the next operation.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// As [`sync_all`](File::sync_all), without what isn't needed to read the data again, such as
    /// times.
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
        let file = self.ticket(Access::Sync)?;
        file.turn().await?;
        let (result, _) = start(Operation::Sync { file, data_only }).await;
        self.line.take_error()?;
        result.map(drop)
    }

    /// Returns the metadata of the file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        self.on_pool(Access::READ_ALL, |file| file.metadata()).await
    }

    /// Cuts the file off, or lengthens it by zeros. The position stays where it is.
    ///
    /// # Errors
    ///
    /// That of an earlier write at the position, and those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be done or not.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let done = self.on_pool(Access::All, move |file| file.set_len(len));
        let done = done.await;
        self.line.take_error()?;
        done
    }

    /// Changes the permissions of the file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be done or not.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let set = move |file: &Handle| file.set_permissions(permissions);
        self.on_pool(Access::All, set).await
    }

    /// Writes what was accepted, and closes the file. When this returns, the descriptor is closed:
    /// the file may be executed, and its locks are released. An operation whose future was dropped
    /// is waited for. Only a read from a pipe or terminal, which may never end, is not.
    ///
    /// Later operations are errors, and a second `close` does nothing.
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
    /// That of an earlier write at the position, and those of the system. The file is closed all
    /// the same.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the file may be closed or not. The next `close` goes on with it.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_close(cx)).await
    }

    /// Takes std's file out, which may travel between threads. What was written is written then,
    /// and the position is where the caller has come to.
    ///
    /// # Errors
    ///
    /// That of an earlier write at the position, and those of the system. The file is closed then.
    pub async fn into_std(mut self) -> io::Result<std::fs::File> {
        poll_fn(|cx| self.poll_idle(cx)).await?;
        self.unread();
        let handle = self.handle.take().ok_or_else(closed)?;
        match Arc::try_unwrap(handle) {
            Ok(handle) => Ok(handle.into_file()),
            Err(shared) => shared.try_clone(), // with a read from a pipe that was given up
        }
    }

    /// Takes the file out to close it here and now, if nothing is in flight and closing it doesn't
    /// wait for a server. io_uring closes such files on this thread as well, one turn later.
    pub(super) fn take_if_local(&mut self) -> Option<std::fs::File> {
        let handle = self.handle.take_if(|it| platform::is_local(it))?;
        match Arc::try_unwrap(handle) {
            Ok(handle) => Some(handle.into_file()),
            Err(shared) => {
                self.handle = Some(shared);
                None
            }
        }
    }

    /// Where whole files begin.
    pub(super) fn beginning(&self) -> Place {
        match &self.handle {
            Some(handle) if handle.is_stream => Place::Cursor,
            _ => Place::Offset(0),
        }
    }

    pub(super) fn handle(&self) -> io::Result<&Arc<Handle>> {
        self.handle.as_ref().ok_or_else(closed)
    }

    pub(super) fn ticket(&self, access: Access) -> io::Result<Ticket> {
        Ok(Ticket::new(self.handle()?, access))
    }

    /// For an operation on so many bytes.
    #[inline]
    pub(super) fn ticket_at(
        &self,
        at: Place,
        bytes: usize,
        access: impl FnOnce(Range<u64>) -> Access,
    ) -> io::Result<Ticket> {
        let handle = self.handle()?;
        if handle.is_stream || bytes == 0 {
            return Ok(Ticket::without_order(handle));
        }
        let access = match at {
            // There, operations at offsets move the position for a moment.
            _ if cfg!(windows) => Access::All,
            Place::Cursor => Access::All,
            Place::Offset(offset) => {
                let access = access(offset..offset.saturating_add(bytes as u64));
                match access {
                    Access::Write(_) if handle.appends => Access::All,
                    access => access,
                }
            }
        };
        self.ticket(access)
    }

    async fn on_pool<T: Send + 'static>(
        &self,
        access: Access,
        work: impl FnOnce(&Handle) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let handle = self.handle()?;
        let file = match handle.is_stream {
            true => Ticket::without_order(handle),
            false => self.ticket(access)?,
        };
        file.turn().await?;
        // The operation leaves its line on the thread, before its result is here.
        on_pool(move || work(&file)).await
    }

    /// Empties a buffer that can take so many bytes then, from where its length ends.
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
    io::Error::new(io::ErrorKind::InvalidInput, "the file was closed")
}

/// Whether to ask the system if there is such an offset before anything is read or written. A pipe
/// must not lose bytes for an operation that can't be, and for an offset beyond all files io_uring
/// has other errors.
fn must_probe(handle: &Handle, at: Place) -> bool {
    match at {
        Place::Offset(offset) => handle.is_stream || offset > i64::MAX as u64,
        Place::Cursor => false,
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File::new(Handle::new(file))
    }
}

/// # Panics
///
/// If the file was [closed](File::close).
#[cfg(unix)]
impl std::os::fd::AsFd for File {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_ref().expect("the file was closed").as_fd()
    }
}

/// # Panics
///
/// If the file was [closed](File::close).
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
