//! Reads, writes and seeks at the position of a file, one after the other.

use std::io::{self, IoSlice, IoSliceMut, Read, SeekFrom};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};

use super::File;
use super::cached::poll_read_cursor;
use super::file::{Cursor, closed};
use super::handle::Handle;
use super::operation::{MAX_BYTES, Operation, spawn_on_pool, start};
use super::order::Access;
use super::position::Position;
use super::simulation::is_simulated;

impl File {
    /// Waits for the read or seek in flight at the position. Returns the result of a seek.
    fn poll_in_flight(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let result = match &mut self.cursor {
            Cursor::Idle => return Poll::Ready(Ok(0)),
            Cursor::Reading(doing) => {
                let (result, operation) = ready!(Pin::new(doing).poll(cx));
                self.buffer = operation.into_buffer();
                result.map(|_| 0)
            }
            Cursor::Seeking(_, seek) => ready!(Pin::new(seek).poll(cx)),
            Cursor::Closing(..) => return Poll::Ready(Err(closed())),
        };
        self.cursor = Cursor::Idle;
        Poll::Ready(result)
    }

    /// Waits until the operations in flight have completed, except for a read from a pipe or a
    /// device. Returns the error of a background write.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle()?;
        let is_stream = self.is_stream();
        if !(is_stream && matches!(self.cursor, Cursor::Reading(_))) {
            // Discards the error of a dropped read.
            let _ = ready!(self.poll_in_flight(cx));
        }
        ready!(self.order.poll_empty(cx))?;
        Poll::Ready(self.order.take_error())
    }

    fn is_stream(&self) -> bool {
        self.handle.as_ref().is_some_and(|it| it.is_stream)
    }

    /// Returns the number of unread bytes in the buffer.
    fn unread_len(&self) -> usize {
        self.buffer.len() - self.taken
    }

    fn clear_unread(&mut self) {
        self.buffer.clear();
        self.taken = 0;
    }

    /// Moves the position back by the unread bytes. A pipe can't seek, so its bytes stay in the
    /// buffer.
    pub(super) fn seek_back(&mut self) {
        let Some(handle) = &self.handle else { return };
        if self.order.is_inherited() {
            return self.clear_unread(); // the parent moves the position, which both share
        }
        if self.unread_len() > 0
            && handle
                .seek(SeekFrom::Current(-(self.unread_len() as i64)))
                .is_ok()
        {
            self.clear_unread();
        }
    }

    fn take_unread(&mut self, bufs: &mut [IoSliceMut<'_>]) -> usize {
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
        let was_reading = matches!(self.cursor, Cursor::Reading(_));
        let settled = ready!(self.poll_in_flight(cx));
        if was_reading && self.unread_len() == 0 {
            settled?; // otherwise the next read returns the error, as after a short read of std
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.unread_len() > 0 || (was_reading && wanted > 0) {
            return Poll::Ready(Ok(self.take_unread(bufs)));
        }
        if !self.is_stream() {
            ready!(self.order.poll_empty(cx))?;
            self.order.take_error()?;
        }
        let handle = self.handle()?.clone();
        if wanted == 0 || (handle.is_stream && is_nonblocking(&handle)) {
            // This completes at once. As in std, one empty buffer makes a system call and several
            // make none.
            return Poll::Ready(handle.read_now(bufs));
        }
        self.poll_new_read(cx, &handle, wanted.min(MAX_BYTES), bufs)
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
        match ready!(self.poll_in_flight(cx)) {
            Err(error) if cached == 0 => Poll::Ready(Err(error)),
            Err(_) => {
                self.clear_unread(); // the caller's buffers have the same bytes
                Poll::Ready(Ok(cached))
            }
            Ok(_) => Poll::Ready(Ok(self.take_unread(bufs))),
        }
    }

    /// Reads on a thread. The first `cached` bytes are in `bufs` already, and the position is
    /// behind them. They are copied to the operation's buffer, from which the next read takes them
    /// if this one is dropped.
    fn start_read(
        &mut self,
        wanted: usize,
        bufs: &[IoSliceMut<'_>],
        cached: usize,
    ) -> io::Result<()> {
        let file = self.guard_at(Position::Cursor, wanted, Access::Read)?;
        let buffer = mem::take(&mut self.buffer);
        let (mut buffer, from) = self.room(buffer, wanted);
        self.taken = from.into();
        let mut rest = cached;
        for buf in bufs {
            let part = buf.len().min(rest);
            buffer.extend_from_slice(&buf[..part]);
            rest -= part;
        }
        self.cursor = Cursor::Reading(start(Operation::Read {
            file,
            buffer,
            wanted: wanted - cached,
            at: Position::Cursor,
        }));
        Ok(())
    }

    fn poll_write_bufs(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_idle(cx))?;
        self.seek_back();
        let handle = self.handle()?.clone();
        let is_empty = bufs.iter().all(|buf| buf.is_empty());
        if is_empty || !handle.writes || (handle.is_stream && is_nonblocking(&handle)) {
            return Poll::Ready(handle.write_now(bufs)); // completes at once
        }
        let bytes = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        let (mut buffer, from) = self.room(self.order.take_spare(), bytes.min(MAX_BYTES));
        for buf in bufs {
            let room = MAX_BYTES - (buffer.len() - usize::from(from));
            buffer.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        let bytes = buffer.len() - usize::from(from);
        let write = start(Operation::Write {
            file: self.guard(Access::All)?,
            buffer,
            at: Position::Cursor,
            all: true,
            in_background: true,
            from,
            done: 0,
        });
        Poll::Ready(write.detach().map(|()| bytes))
    }
}

/// Background writes continue.
impl Drop for File {
    fn drop(&mut self) {
        self.seek_back();
    }
}

/// Each read is an operation of at most 256 KiB. A read of a file is short only at the file's end.
/// Dropping a read loses no bytes. The next read returns them, or the position moves back.
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

/// A write copies up to 256 KiB and returns. The next write waits until this data is written. All
/// buffers of a vectored write are one operation. `close` is [`File::close`].
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
        ready!(self.order.poll_empty(cx))?;
        Poll::Ready(self.order.take_error())
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.handle.is_some() {
            let written = ready!(self.poll_idle(cx));
            self.seek_back();
            self.cursor = Cursor::Idle; // a read from a pipe is abandoned
            match self.handle.take().map(Arc::try_unwrap) {
                Some(Ok(handle)) => {
                    let close = start(Operation::Close(Some(handle.into_file())));
                    self.cursor = Cursor::Closing(close, written);
                }
                _ => return Poll::Ready(written),
            }
        }
        if let Cursor::Closing(close, written) = &mut self.cursor {
            let (result, _) = ready!(Pin::new(close).poll(cx));
            let written = mem::replace(written, Ok(()));
            self.cursor = Cursor::Idle;
            return Poll::Ready(written.and(result.map(drop)));
        }
        Poll::Ready(Ok(()))
    }
}

/// Only a seek from the end runs on a thread, because a network file system may have to query its
/// server.
impl AsyncSeek for File {
    fn poll_seek(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pos: SeekFrom,
    ) -> Poll<io::Result<u64>> {
        let this = &mut *self;
        if matches!(this.cursor, Cursor::Seeking(known, _) if known == pos) {
            return this.poll_in_flight(cx);
        }
        ready!(this.poll_idle(cx))?;
        this.seek_back();
        let file = this.guard(Access::All)?;
        match pos {
            SeekFrom::End(_) if !is_simulated() => {
                let seek = spawn_on_pool(move || file.seek(pos))?;
                this.cursor = Cursor::Seeking(pos, seek);
                this.poll_in_flight(cx)
            }
            _ => Poll::Ready(file.seek(pos)),
        }
    }
}

/// Returns whether operations on a pipe or a device fail instead of waiting, according to its file
/// descriptor's flags.
#[cfg(unix)]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    use rustix::fs::{OFlags, fcntl_getfl};
    fcntl_getfl(&**handle).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK))
}

#[cfg(not(unix))]
pub(super) fn is_nonblocking(handle: &Handle) -> bool {
    handle.is_nonblocking
}
