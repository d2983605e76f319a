//! An open file.

use std::fmt;
use std::fs::{Metadata, Permissions};
use std::future::Future;
use std::io::{self, Seek, SeekFrom};
use std::mem;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};

use super::OpenOptions;
use super::operation::{
    Doing, Handle, MOST_BYTES, OnPool, Operation, Place, on_pool, spawn_on_pool, start,
};

/// An open file.
///
/// Two ways lead to its bytes:
///
/// * [`read_at`](File::read_at) and [`write_at`](File::write_at), at any offset. They take `&self`:
///   any number may be under way at once.
/// * [`AsyncRead`], [`AsyncWrite`] and [`AsyncSeek`], where its cursor is, one after the other.
///   **What is written so is taken into a buffer, and written while the caller goes on.** An error
///   comes out at the next operation: so [`flush`](futures_io::AsyncWrite::poll_flush) at the end,
///   which waits for it. Small pieces are for `futures::io::BufReader` and `BufWriter`: each read
///   and each write is an operation.
///
/// A file that is dropped is closed off the loop, after what it still has to write.
///
/// # Cancel safety
///
/// Operations own what they read into and write from. So a future may be dropped, or leaked, at any
/// time: no memory is touched that is not theirs. What was done by then each of them says.
///
/// # Examples
///
/// ```
/// use futures::{AsyncReadExt, AsyncWriteExt};
/// use windlass_reactor::{block_on, fs::{self, File}};
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
    handle: Arc<Handle>,
    /// What is written goes to the end, and the system's cursor with it.
    appends: bool,
    /// Where the next read or write at the cursor begins; None if only the system knows.
    place: Option<Place>,
    cursor: Cursor,
    /// What a read has brought and nobody has taken yet: from `taken` on. Otherwise it's kept for
    /// its memory.
    buffer: Vec<u8>,
    taken: usize,
}

/// What is under way at the cursor.
enum Cursor {
    Rests,
    Reads(Doing),
    Writes(Doing),
    Seeks(SeekFrom, OnPool<io::Result<u64>>),
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

    /// [`OpenOptions::new`], for who has no use for another import.
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Its errors don't tell of the path.
    pub(super) async fn open_with(options: &OpenOptions, path: &Path) -> io::Result<File> {
        options.check(path)?;
        let (result, operation) = start(Operation::Open {
            path: path.to_owned(),
            options: options.clone(),
            opened: None,
        })
        .await;
        result?;
        let file = operation.into_opened().expect("it has been opened");
        Ok(File::new(file, options.writes(), options.appends()))
    }

    fn new(file: std::fs::File, writes: bool, appends: bool) -> File {
        let mut this = File {
            handle: Handle::new(file, writes),
            appends,
            place: None,
            cursor: Cursor::Rests,
            buffer: Vec::new(),
            taken: 0,
        };
        if cfg!(windows) {
            this.place(); // before anything is read at an offset, which moves the system's cursor
        }
        this
    }

    /// Reads at an offset, as much as the file has there and the buffer can take: at most 256 KiB,
    /// and nothing at the file's end. The cursor stays where it is (not so on Windows).
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the buffer is as it was.
    pub async fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = Vec::with_capacity(buf.len().min(MOST_BYTES));
        let (result, bytes) = self.read_buf_at(room, offset).await;
        buf[..bytes.len()].copy_from_slice(&bytes);
        result
    }

    /// As [`read_at`](File::read_at), but without copying: the buffer goes along, and comes back
    /// with what was read behind what it had, in the capacity that it has to spare.
    ///
    /// ```
    /// use windlass_reactor::{block_on, fs::File};
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
        self.read_buf(buf, Place::Offset(offset)).await
    }

    pub(super) async fn read_buf(
        &self,
        buffer: Vec<u8>,
        at: Place,
    ) -> (io::Result<usize>, Vec<u8>) {
        let wanted = (buffer.capacity() - buffer.len()).min(MOST_BYTES);
        let (result, operation) = start(Operation::Read {
            file: self.handle.clone(),
            buffer,
            wanted,
            at,
        })
        .await;
        (result, operation.into_buffer())
    }

    /// Writes at an offset, at most 256 KiB of the buffer, and says how much. The cursor stays
    /// where it is (not so on Windows). In a file opened to append, Linux writes at its end.
    ///
    /// # Errors
    ///
    /// Those of the system; `StorageFull` for a full disk.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the write may have been done, in part or whole, or may still be done; in order
    /// with nothing but its own bytes. To know, await it.
    pub async fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let bytes = buf[..buf.len().min(MOST_BYTES)].to_vec();
        self.write_buf_at(bytes, offset).await.0
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
        self.write_buf(buf, Place::Offset(offset), false).await
    }

    pub(super) async fn write_buf(
        &self,
        buffer: Vec<u8>,
        at: Place,
        all: bool,
    ) -> (io::Result<usize>, Vec<u8>) {
        let (result, operation) = start(self.to_write(buffer, at, all)).await;
        (result, operation.into_buffer())
    }

    fn to_write(&self, buffer: Vec<u8>, at: Place, all: bool) -> Operation {
        Operation::Write {
            file: self.handle.clone(),
            buffer,
            at,
            all,
            done: 0,
        }
    }

    /// Waits until all that was written is on the disk, the file's length and times included. What
    /// is written at the cursor has to be flushed before.
    ///
    /// # Errors
    ///
    /// Those of the system. After one, what was written since the last call may be lost.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may go on.
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
        let file = self.handle.clone();
        let (result, _) = start(Operation::Sync { file, data_only }).await;
        result.map(drop)
    }

    /// What the system knows of the file.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        let file = self.handle.clone();
        on_pool(move || file.metadata()).await
    }

    /// Cuts the file off, or lengthens it by zeros. The cursor stays where it is.
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be done or not.
    pub async fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.handle.clone();
        on_pool(move || file.set_len(len)).await
    }

    /// Who may do what with it.
    ///
    /// # Errors
    ///
    /// Those of the system.
    ///
    /// # Cancel safety
    ///
    /// When dropped, it may be done or not.
    pub async fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        let file = self.handle.clone();
        on_pool(move || file.set_permissions(permissions)).await
    }

    /// Takes std's file out, which may travel between threads. What was written is written then,
    /// and the cursor where the caller has come to.
    ///
    /// # Errors
    ///
    /// That of a write whose caller had gone on, and those of the system. The file is closed then.
    pub async fn into_std(mut self) -> io::Result<std::fs::File> {
        std::future::poll_fn(|cx| self.poll_settled(cx)).await?;
        self.unread();
        let handle = self.handle.clone();
        let place = self.place;
        drop(self);
        if let Some(Place::Offset(offset)) = place {
            (&**handle).seek(SeekFrom::Start(offset))?;
        }
        match Arc::try_unwrap(handle) {
            Ok(handle) => Ok(handle.into_file()),
            Err(shared) => shared.try_clone(), // with an operation that was given up
        }
    }

    /// Where the cursor is, while nothing is under way there. No more than to look into memory of
    /// the kernel's.
    pub(super) fn place(&mut self) -> Place {
        let place = match self.place {
            Some(place) => place,
            None => match (&**self.handle).stream_position() {
                Ok(offset) => Place::Offset(offset),
                Err(_) => Place::Cursor, // a pipe, or a terminal
            },
        };
        self.place = Some(place);
        place
    }

    /// Waits until nothing is under way at the cursor.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = match &mut self.cursor {
            Cursor::Rests => return Poll::Ready(Ok(())),
            Cursor::Reads(doing) => {
                let (result, operation) = ready!(Pin::new(doing).poll(cx));
                self.buffer = operation.into_buffer();
                self.move_by(self.buffer.len());
                result.map(drop)
            }
            Cursor::Writes(doing) => {
                let (result, operation) = ready!(Pin::new(doing).poll(cx));
                self.move_by(operation.done());
                if self.appends {
                    self.place = None;
                }
                if self.left() == 0 {
                    self.buffer = operation.into_buffer();
                    self.buffer.clear();
                    self.taken = 0;
                }
                result.map(drop)
            }
            Cursor::Seeks(_, seek) => {
                let sought = ready!(Pin::new(seek).poll(cx));
                sought.map(|offset| self.place = Some(Place::Offset(offset)))
            }
        };
        self.cursor = Cursor::Rests;
        Poll::Ready(result)
    }

    fn move_by(&mut self, bytes: usize) {
        self.place = self.place.map(|place| place.after(bytes));
    }

    /// What was read and not taken.
    fn left(&self) -> usize {
        self.buffer.len() - self.taken
    }

    /// Gives it back, if there are offsets; what came out of a pipe stays here.
    fn unread(&mut self) {
        if let Some(Place::Offset(offset)) = self.place {
            self.place = Some(Place::Offset(offset - self.left() as u64));
            self.buffer.clear();
            self.taken = 0;
        }
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        let (writes, appends) = platform::mode(&file);
        File::new(file, writes, appends)
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for File {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for File {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.handle.as_raw_fd()
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self.handle).fmt(f)
    }
}

/// What was written must not be lost: it's the only one that a drop lets go on.
impl Drop for File {
    fn drop(&mut self) {
        if let Cursor::Writes(doing) = mem::replace(&mut self.cursor, Cursor::Rests) {
            doing.detach();
        }
    }
}

/// Each read is an operation, of at most 256 KiB. One that is dropped loses nothing: what it brings
/// is there for the next.
impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let was_reading = matches!(this.cursor, Cursor::Reads(_));
        ready!(this.poll_settled(cx))?;
        if this.left() == 0 && !was_reading && !buf.is_empty() {
            let at = this.place();
            let wanted = buf.len().min(MOST_BYTES);
            let mut buffer = mem::take(&mut this.buffer);
            buffer.clear();
            buffer.reserve(wanted);
            this.taken = 0;
            this.cursor = Cursor::Reads(start(Operation::Read {
                file: this.handle.clone(),
                buffer,
                wanted,
                at,
            }));
            ready!(this.poll_settled(cx))?;
        }
        let n = this.left().min(buf.len());
        buf[..n].copy_from_slice(&this.buffer[this.taken..][..n]);
        this.taken += n;
        Poll::Ready(Ok(n))
    }
}

/// A write takes up to 256 KiB and returns; the next waits until that is written. `close` flushes:
/// the file is closed when it's dropped.
impl AsyncWrite for File {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_settled(cx))?;
        this.unread();
        let at = match this.place() {
            _ if this.appends => Place::Cursor,
            place => place,
        };
        let mut buffer = Vec::new();
        if this.left() == 0 {
            buffer = mem::take(&mut this.buffer);
            buffer.clear();
            this.taken = 0;
        }
        let n = buf.len().min(MOST_BYTES);
        buffer.extend_from_slice(&buf[..n]);
        this.cursor = Cursor::Writes(start(this.to_write(buffer, at, true)));
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.cursor {
            Cursor::Writes(_) => self.poll_settled(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// Only to look for the end leaves the loop: a network file system may have to be asked.
impl AsyncSeek for File {
    fn poll_seek(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pos: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        let this = &mut *self;
        let was_seeking = matches!(this.cursor, Cursor::Seeks(known, _) if known == pos);
        ready!(this.poll_settled(cx))?;
        this.unread();
        match (this.place(), pos) {
            (Place::Offset(offset), _) if was_seeking => Poll::Ready(Ok(offset)),
            (Place::Offset(offset), SeekFrom::Current(by)) => {
                let offset = offset
                    .checked_add_signed(by)
                    .filter(|&it| it <= i64::MAX as u64);
                let offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
                this.place = Some(Place::Offset(offset));
                Poll::Ready(Ok(offset))
            }
            (_, SeekFrom::End(_)) => {
                let file = this.handle.clone();
                let seek = spawn_on_pool(move || (&**file).seek(pos))?;
                this.cursor = Cursor::Seeks(pos, seek);
                self.poll_seek(cx, pos)
            }
            (place, _) => {
                let offset = (&**this.handle).seek(pos)?;
                if let Place::Offset(_) = place {
                    this.place = Some(Place::Offset(offset));
                }
                Poll::Ready(Ok(offset))
            }
        }
    }
}

#[cfg(unix)]
mod platform {
    use rustix::fs::{OFlags, fcntl_getfl};

    /// Whether it was opened to be written, and to write at its end.
    pub(super) fn mode(file: &std::fs::File) -> (bool, bool) {
        let flags = fcntl_getfl(file).unwrap_or(OFlags::RDWR);
        (
            flags.intersects(OFlags::RDWR | OFlags::WRONLY),
            flags.contains(OFlags::APPEND),
        )
    }
}

#[cfg(windows)]
mod platform {
    /// Windows doesn't tell. What is opened to append it writes at the end, whatever the offset.
    pub(super) fn mode(_: &std::fs::File) -> (bool, bool) {
        (true, false)
    }
}
