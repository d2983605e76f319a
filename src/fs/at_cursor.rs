//! What happens at the position of a file: reads, writes and seeks, one after the other.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};

use super::File;
use super::cached::poll_read_cursor;
use super::file::{Cursor, closed};
use super::line::Access;
use super::operation::{Handle, MOST_BYTES, Operation, Place, spawn_on_pool, start};

impl File {
    /// Waits for the read or seek in flight at the position. The result is that of a seek.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let result = match &mut self.cursor {
            Cursor::Rests => return Poll::Ready(Ok(0)),
            Cursor::Reads(doing) => {
                let (result, operation) = ready!(Pin::new(doing).poll(cx));
                self.buffer = operation.into_buffer();
                result.map(|_| 0)
            }
            Cursor::Seeks(_, seek) => ready!(Pin::new(seek).poll(cx)),
            Cursor::Closes(..) => return Poll::Ready(Err(closed())),
        };
        self.cursor = Cursor::Rests;
        Poll::Ready(result)
    }

    /// Waits until nothing is in flight, and returns the error of a write whose caller had gone on.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle()?;
        let is_stream = self.is_stream();
        if !(is_stream && matches!(self.cursor, Cursor::Reads(_))) {
            // The error of a read that nobody awaits any more concerns nobody.
            let _ = ready!(self.poll_settled(cx));
        }
        ready!(self.line.poll_empty(cx))?;
        Poll::Ready(self.line.take_error())
    }

    fn is_stream(&self) -> bool {
        self.handle.as_ref().is_some_and(|it| it.is_stream)
    }

    /// What was read and not taken.
    fn left(&self) -> usize {
        self.buffer.len() - self.taken
    }

    fn forget_left(&mut self) {
        self.buffer.clear();
        self.taken = 0;
    }

    /// Takes the position back by what was read and not taken. What came out of a pipe stays here.
    pub(super) fn unread(&mut self) {
        let Some(handle) = &self.handle else { return };
        if self.line.is_inherited() {
            return self.forget_left(); // the parent takes the position back, which both share
        }
        if self.left() > 0 && (&***handle).seek_relative(-(self.left() as i64)).is_ok() {
            self.forget_left();
        }
    }

    fn take_left(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
        let mut left = &self.buffer[self.taken..];
        let n = left.read_vectored(bufs).unwrap_or(0);
        self.taken += n;
        n
    }

    fn poll_read_bufs(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let was_reading = matches!(self.cursor, Cursor::Reads(_));
        let settled = ready!(self.poll_settled(cx));
        if was_reading && self.left() == 0 {
            settled?; // otherwise the next read finds the error, as after a short read of std
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.left() > 0 || (was_reading && wanted > 0) {
            return Poll::Ready(Ok(self.take_left(bufs)));
        }
        if !self.is_stream() {
            ready!(self.line.poll_empty(cx))?;
            self.line.take_error()?;
        }
        let handle = self.handle()?.clone();
        if wanted == 0 || (handle.is_stream && is_nonblocking(&handle)) {
            // It can't wait. As std: with one empty buffer the device is asked, with many it isn't.
            return Poll::Ready(match bufs {
                [buf] => (&**handle).read(buf),
                _ => (&**handle).read_vectored(bufs),
            });
        }
        self.poll_new_read(cx, &handle, wanted.min(MOST_BYTES), bufs)
    }

    fn poll_new_read(
        &mut self,
        cx: &mut Context<'_>,
        handle: &Handle,
        wanted: usize,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut cached = 0;
        let can = self.can_read_cached.get_mut();
        if *can {
            let read = ready!(poll_read_cursor(cx, handle, bufs, can));
            cached = read.bytes;
            if read.is_complete {
                return Poll::Ready(Ok(cached));
            }
        }
        self.start_read(wanted, bufs, cached)?;
        match ready!(self.poll_settled(cx)) {
            Err(error) if cached == 0 => Poll::Ready(Err(error)),
            Err(_) => {
                self.forget_left(); // the caller's buffers have the same bytes
                Poll::Ready(Ok(cached))
            }
            Ok(_) => Poll::Ready(Ok(self.take_left(bufs))),
        }
    }

    /// Reads on a thread. The first `cached` bytes are in `bufs` already, and the position is
    /// behind them. They move to the operation's buffer, so that a dropped read loses nothing.
    fn start_read(
        &mut self,
        wanted: usize,
        bufs: &[IoSliceMut<'_>],
        cached: usize,
    ) -> io::Result<()> {
        let file = self.ticket_at(Place::Cursor, wanted, Access::Read)?;
        let buffer = mem::take(&mut self.buffer);
        let (mut buffer, from) = self.room(buffer, wanted);
        self.taken = from.into();
        let mut rest = cached;
        for buf in bufs {
            let part = buf.len().min(rest);
            buffer.extend_from_slice(&buf[..part]);
            rest -= part;
        }
        self.cursor = Cursor::Reads(start(Operation::Read {
            file,
            buffer,
            wanted: wanted - cached,
            at: Place::Cursor,
        }));
        Ok(())
    }

    fn poll_write_bufs(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(cx))?;
        self.unread();
        let handle = self.handle()?.clone();
        let is_empty = bufs.iter().all(|buf| buf.is_empty());
        if is_empty || !handle.writes || (handle.is_stream && is_nonblocking(&handle)) {
            return Poll::Ready(match bufs {
                [buf] => (&**handle).write(buf), // it can't wait
                _ => (&**handle).write_vectored(bufs),
            });
        }
        let bytes = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let (mut buffer, from) = self.room(self.line.take_spare(), bytes.min(MOST_BYTES));
        for buf in bufs {
            let room = MOST_BYTES - (buffer.len() - usize::from(from));
            buffer.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        let bytes = buffer.len() - usize::from(from);
        let write = start(Operation::Write {
            file: self.ticket(Access::All)?,
            buffer,
            at: Place::Cursor,
            all: true,
            in_background: true,
            from,
            done: 0,
        });
        Poll::Ready(write.detach().map(|()| bytes))
    }
}

/// Writes in the background go on.
impl Drop for File {
    fn drop(&mut self) {
        self.unread();
    }
}

/// Each read is an operation of at most 256 KiB. A read of a file is short only at the file's end.
/// A dropped read loses nothing. The next one takes its bytes, or the position goes back.
impl AsyncRead for File {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_bufs(cx, &mut [IoSliceMut::new(buf)])
    }

    fn poll_read_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_bufs(cx, bufs)
    }
}

/// A write takes up to 256 KiB and returns; the next waits until that is written. All buffers of a
/// vectored write are one operation. `close` is [`File::close`].
impl AsyncWrite for File {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_bufs(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_bufs(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.line.poll_empty(cx))?;
        Poll::Ready(self.line.take_error())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.handle.is_some() {
            let written = ready!(self.poll_idle(cx));
            self.unread();
            self.cursor = Cursor::Rests; // a read from a pipe is given up
            match self.handle.take().map(Arc::try_unwrap) {
                Some(Ok(handle)) => {
                    let close = start(Operation::Close(Some(handle.into_file())));
                    self.cursor = Cursor::Closes(close, written);
                }
                _ => return Poll::Ready(written),
            }
        }
        if let Cursor::Closes(close, written) = &mut self.cursor {
            let (result, _) = ready!(Pin::new(close).poll(cx));
            let written = mem::replace(written, Ok(()));
            self.cursor = Cursor::Rests;
            return Poll::Ready(written.and(result.map(drop)));
        }
        Poll::Ready(Ok(()))
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
        if matches!(this.cursor, Cursor::Seeks(known, _) if known == pos) {
            return this.poll_settled(cx);
        }
        ready!(this.poll_idle(cx))?;
        this.unread();
        let file = this.ticket(Access::All)?;
        match pos {
            SeekFrom::End(_) => {
                let seek = spawn_on_pool(move || (&**file).seek(pos))?;
                this.cursor = Cursor::Seeks(pos, seek);
                this.poll_settled(cx)
            }
            _ => Poll::Ready((&**file).seek(pos)),
        }
    }
}

/// Whether operations on a pipe or a device never wait, as its descriptor is set at this time.
#[cfg(unix)]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl};
    fcntl_getfl(&**handle).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

#[cfg(not(unix))]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    handle.is_nonblocking
}
