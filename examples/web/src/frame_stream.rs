//! The TCP stream of a WebSocket, to which other tasks may send whole frames.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures::io::{AsyncRead, AsyncWrite};
use windlass::net::TcpStream;

/// A TCP stream that is shared by the task of a WebSocket, which reads and writes it, and by tasks
/// that send frames to many peers. A frame that is sent here needs no wake of the other task.
#[derive(Clone, Debug)]
pub struct FrameStream(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// The rest of a frame of which the system has taken a part. The task of the WebSocket writes
    /// it, and nothing else may be written before.
    rest: RefCell<Bytes>,
    /// The WebSocket has bytes that the system has not taken, perhaps a part of a frame.
    is_blocked: Cell<bool>,
}

/// How much of a frame [`FrameStream::try_send`] has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    All,
    /// The next read or write of the stream sends the rest.
    Part,
    Nothing,
}

impl FrameStream {
    pub fn new(stream: TcpStream) -> FrameStream {
        FrameStream(Rc::new(Inner {
            stream,
            rest: RefCell::default(),
            is_blocked: Cell::new(false),
        }))
    }

    /// Sends a whole frame without waiting. Sends nothing while other bytes wait to be written, and
    /// after an error, which the next read or write returns.
    pub fn try_send(&self, frame: &Bytes) -> Sent {
        let Inner {
            stream,
            rest,
            is_blocked,
        } = &*self.0;
        if is_blocked.get() || !rest.borrow().is_empty() {
            return Sent::Nothing;
        }
        match stream.try_write(frame) {
            Ok(written) if written == frame.len() => Sent::All,
            Ok(written) => {
                rest.replace(frame.slice(written..));
                Sent::Part
            }
            Err(_) => Sent::Nothing,
        }
    }
}

impl Inner {
    /// Writes the rest of a frame.
    fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut rest = self.rest.borrow_mut();
        while !rest.is_empty() {
            match ready!(Pin::new(&mut &self.stream).poll_write(cx, &rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => rest.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes bytes of the WebSocket.
    fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.is_blocked.set(true);
        ready!(self.poll_rest(cx))?;
        let written = ready!(Pin::new(&mut &self.stream).poll_write(cx, buf))?;
        self.is_blocked.set(written < buf.len());
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for FrameStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        // The task of a WebSocket always reads, but writes only if it has something to write.
        if let Poll::Ready(Err(error)) = self.0.poll_rest(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut &self.0.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for FrameStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_rest(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_rest(cx))?;
        Pin::new(&mut &self.0.stream).poll_close(cx)
    }
}
