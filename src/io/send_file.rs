//! Sending ranges of files.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::Pin;

use futures_io::AsyncWrite;

use super::Descriptor;
use crate::fs::File;

/// The size of the buffer for data that is copied.
const BUFFER: u64 = 256 * 1024;

/// The largest range that is copied without a try of `sendfile`. Reading it behind the head, and
/// one write of both, take less CPU time.
#[cfg(target_os = "linux")]
const SMALL: u64 = 32 * 1024;

/// Writes some bytes and then a range of a file, without moving the position of the file. Returns
/// the number of bytes that were read from the file, which are fewer than wanted if the file ends
/// before.
///
/// The first bytes are a head, for example of an HTTP response, and may be empty. They leave with
/// the start of the file in one packet.
///
/// On Linux, the kernel sends large ranges from its cache without a copy into the program
/// (`sendfile`). A range that is not cached is read as [`File`] does, so a slow disk never stops
/// the loop. Small ranges are copied, which is faster. So are files on file systems where
/// `sendfile` may wait, and all files if `SIGPIPE` isn't ignored, because `sendfile` would raise
/// it. A thread checks this at its first large range, so set the action of the signal before.
///
/// The range is read in pieces of up to 256 KiB. Another program may change the file between two
/// pieces, and up to the time when the client acknowledges the data.
///
/// # Errors
///
/// Fails with the errors of reading and writing.
///
/// # Cancel safety
///
/// **May be half done.** When the future is dropped, an unknown first part was written.
///
/// # Examples
///
/// ```no_run
/// use windlass::{block_on, fs::File, io::send_file, net::TcpListener};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let (client, _) = listener.accept().await?;
///     let file = File::open("Cargo.toml").await?;
///     let length = file.metadata().await?.len();
///     let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
///     send_file(&client, head.as_bytes(), &file, 0..length).await?;
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn send_file<W>(
    mut writer: W,
    mut head: &[u8],
    file: &File,
    range: Range<u64>,
) -> io::Result<u64>
where
    W: AsyncWrite + Descriptor + Unpin,
{
    let Range { mut start, end } = range.clone();
    loop {
        #[cfg(target_os = "linux")]
        if end.saturating_sub(start) > SMALL {
            if let Some(writer) = writer.spliced() {
                start = zero_copy::send(writer, &mut head, file, start..end).await?;
            }
        }
        let wanted = end.saturating_sub(start).min(BUFFER) as usize;
        let read = copy_part(&mut writer, head, file, start, wanted).await?;
        head = &[];
        start += read as u64;
        // A read may be short for other reasons than the end of the file, such as an error.
        if read == 0 || start >= end {
            return Ok(start - range.start);
        }
    }
}

/// Writes the head and a part of the file. Returns the number of bytes that were read.
async fn copy_part(
    writer: &mut (impl AsyncWrite + Unpin),
    head: &[u8],
    file: &File,
    offset: u64,
    wanted: usize,
) -> io::Result<usize> {
    // Without further room, which would be read into.
    let mut buffer = Vec::with_capacity(head.len() + wanted);
    buffer.extend_from_slice(head);
    let mut read = 0;
    if wanted > 0 {
        let result;
        (result, buffer) = file.read_buf_at(buffer, offset).await;
        read = result?.min(wanted);
        buffer.truncate(head.len() + read);
    }
    let mut left = &buffer[..];
    while !left.is_empty() {
        match poll_fn(|cx| Pin::new(&mut *writer).poll_write(cx, left)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => left = &left[written..],
        }
    }
    Ok(read)
}

#[cfg(target_os = "linux")]
mod zero_copy {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::io;
    use std::mem;
    use std::ops::Range;
    use std::os::fd::BorrowedFd;
    use std::task::{Context, Poll, ready};

    use rustix::fs::sendfile;
    use rustix::io::Errno;
    use rustix::net::{SendFlags, send as send_bytes};

    use super::super::splice::{Spliced, is_refusal, sigpipe_is_harmless};
    use super::BUFFER;
    use crate::fs::File;
    use crate::fs::send::{Attempt, poll_admit, settle};

    /// The size of an attempt that probably finds a full socket.
    const PROBE: usize = 4096;

    thread_local! {
        /// Whether `sendfile` raises no signal, once it is known.
        static IS_HARMLESS: Cell<Option<bool>> = const { Cell::new(None) };
    }

    /// Sends cached data. Returns the offset of the data that must be copied, or the end.
    pub(super) async fn send(
        writer: &dyn Spliced,
        head: &mut &[u8],
        file: &File,
        range: Range<u64>,
    ) -> io::Result<u64> {
        let Some(file_fd) = file.sendable() else {
            return Ok(range.start);
        };
        let is_harmless = || sigpipe_is_harmless().unwrap_or(false);
        let is_known = IS_HARMLESS.get().unwrap_or_else(is_harmless);
        IS_HARMLESS.set(Some(is_known));
        if !is_known || !poll_fn(|cx| poll_head(cx, writer, head)).await? {
            return Ok(range.start);
        }
        let mut sending = Sending {
            offset: range.start,
            end: range.end,
            was_short: false,
            attempt: Attempt::default(),
        };
        poll_fn(|cx| sending.poll(cx, writer, file, file_fd)).await
    }

    /// Sends the head, and leaves it in the socket's buffer until more follows. Returns false if
    /// the writer isn't a socket.
    fn poll_head(
        cx: &mut Context<'_>,
        writer: &dyn Spliced,
        head: &mut &[u8],
    ) -> Poll<io::Result<bool>> {
        while !head.is_empty() {
            let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let mut op = |fd: BorrowedFd<'_>| Ok(send_bytes(fd, head, flags)?);
            match ready!(writer.poll_write(cx, &mut op)) {
                Ok(sent) => *head = &head[sent..],
                Err(error) if error.raw_os_error() == Some(Errno::NOTSOCK.raw_os_error()) => {
                    return Poll::Ready(Ok(false));
                }
                Err(error) if is_refusal(&error) => return Poll::Ready(Ok(false)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(true))
    }

    struct Sending {
        offset: u64,
        end: u64,
        /// The socket has taken a part, so it is probably full.
        was_short: bool,
        attempt: Attempt,
    }

    impl Sending {
        fn poll(
            &mut self,
            cx: &mut Context<'_>,
            writer: &dyn Spliced,
            file: &File,
            file_fd: BorrowedFd<'_>,
        ) -> Poll<io::Result<u64>> {
            while self.offset < self.end {
                let most = (self.end - self.offset).min(BUFFER) as usize;
                if !ready!(poll_admit(cx, &mut self.attempt, most)) {
                    break;
                }
                let polled = self.poll_part(cx, writer, file, file_fd, most);
                let sent = match polled {
                    Poll::Ready(Ok(sent)) => sent,
                    _ => 0,
                };
                settle(most, sent);
                match ready!(polled) {
                    Ok(0) => break, // uncached, or the end of the file
                    Ok(_) => self.offset += sent as u64,
                    Err(error) if is_refusal(&error) => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Poll::Ready(Ok(self.offset))
        }

        fn poll_part(
            &mut self,
            cx: &mut Context<'_>,
            writer: &dyn Spliced,
            file: &File,
            file_fd: BorrowedFd<'_>,
            most: usize,
        ) -> Poll<io::Result<usize>> {
            let mut attempted = 0;
            let mut op = |fd: BorrowedFd<'_>| {
                attempted = self.next_attempt(file, most);
                match attempted {
                    0 => Ok(0),
                    _ => Ok(sendfile(
                        fd,
                        file_fd,
                        Some(&mut { self.offset }),
                        attempted,
                    )?),
                }
            };
            let sent = ready!(writer.poll_write(cx, &mut op))?;
            self.was_short = sent < attempted;
            Poll::Ready(Ok(sent))
        }

        /// Returns how many bytes to send. It is called directly before each system call, because
        /// pages may be evicted while the socket is full.
        fn next_attempt(&mut self, file: &File, most: usize) -> usize {
            let wanted = match mem::take(&mut self.was_short) {
                true => most.min(PROBE),
                false => most,
            };
            file.bytes_in_memory(self.offset, wanted)
        }
    }
}
