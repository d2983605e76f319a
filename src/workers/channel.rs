//! The channel between a worker and its parent. It transports frames, in memory between threads and
//! over a Unix socket between processes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use futures_channel::mpsc;
use futures_core::Stream;

use crate::Task;
use crate::sync::Mutex;

#[cfg(unix)]
use self::socket::Socket;

/// Maximum size of a message in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Frames queued in a channel before a sender has to wait.
const QUEUE: usize = 64;

/// A tag and a body. The tag is the type of a control message, or the recipient or sender of a
/// message.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u32,
    pub(super) body: Vec<u8>,
}

impl Frame {
    pub(super) fn empty(tag: u32) -> Frame {
        let body = Vec::new();
        Frame { tag, body }
    }
}

/// One end of a channel between threads.
pub(super) type ChannelEnd = (mpsc::Sender<Frame>, mpsc::Receiver<Frame>);

pub(super) fn pair() -> (ChannelEnd, ChannelEnd) {
    let (to_there, from_here) = mpsc::channel(QUEUE);
    let (to_here, from_there) = mpsc::channel(QUEUE);
    ((to_there, from_there), (to_here, from_here))
}

/// One end of a bidirectional channel.
pub(super) struct Channel {
    pub(super) outgoing: FrameSender,
    pub(super) incoming: FrameReceiver,
    /// Writes queued frames to the socket, if there is one. Ends when `outgoing` is closed.
    pub(super) writer: Option<Task<()>>,
}

impl Channel {
    pub(super) fn in_process((sender, receiver): ChannelEnd) -> Channel {
        Channel {
            outgoing: FrameSender::new(sender),
            incoming: FrameReceiver::Channel(receiver),
            writer: None,
        }
    }

    /// Must be called within a runtime.
    #[cfg(unix)]
    pub(super) fn over_socket(socket: std::os::unix::net::UnixStream) -> io::Result<Channel> {
        let stream = crate::net::unix::UnixStream::try_from(socket)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        Ok(Channel {
            outgoing: FrameSender::new(sender),
            incoming: FrameReceiver::Socket(Socket::new(stream.clone())),
            writer: Some(crate::spawn(socket::write_all(stream, receiver))),
        })
    }
}

/// Sends frames to the other end. A full queue makes the sender wait.
///
/// The lock allows one waiting sender at a time. If each had its own clone of the `mpsc::Sender`,
/// each clone would add a slot to the queue, and the queue would be unbounded.
#[derive(Clone)]
pub(super) struct FrameSender {
    sender: Rc<Mutex<mpsc::Sender<Frame>>>,
}

impl FrameSender {
    fn new(sender: mpsc::Sender<Frame>) -> FrameSender {
        FrameSender {
            sender: Rc::new(Mutex::new(sender)),
        }
    }

    /// Returns an error if the other end is closed. A dropped future has sent nothing.
    pub(super) async fn send(&self, frame: Frame) -> io::Result<()> {
        check(&frame.body)?;
        let mut sender = self.sender.lock().await;
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
        let sent = ready.and_then(|()| sender.start_send(frame));
        sent.map_err(|_| {
            io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the other end of the channel is closed",
            )
        })
    }

    /// Returns false if the queue is full or the other end is closed.
    pub(super) fn try_send(&self, frame: Frame) -> bool {
        let sender = self.sender.try_lock();
        sender.is_some_and(|mut sender| sender.try_send(frame).is_ok())
    }

    /// Rejects new frames. Queued frames are still delivered.
    pub(super) async fn close(&self) {
        self.sender.lock().await.close_channel();
    }
}

pub(super) fn check(body: &[u8]) -> io::Result<()> {
    if body.len() > MAX_BODY {
        let text = format!(
            "a message of {} bytes exceeds the limit of {MAX_BODY}",
            body.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Receives the frames of the other end.
pub(super) enum FrameReceiver {
    Channel(mpsc::Receiver<Frame>),
    #[cfg(unix)]
    Socket(Socket),
}

impl FrameReceiver {
    /// Returns `None` once the other end is closed. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<Frame> {
        match self {
            FrameReceiver::Channel(frames) => {
                poll_fn(|cx| Pin::new(&mut *frames).poll_next(cx)).await
            }
            #[cfg(unix)]
            FrameReceiver::Socket(socket) => socket.recv().await.ok(),
        }
    }
}

#[cfg(unix)]
mod socket {
    use super::*;
    use crate::net::unix::UnixStream;

    /// The header has the length of the body and the tag, four bytes each.
    const HEAD: usize = 8;

    /// Reads frames. Keeps the bytes of an incomplete frame for the next call.
    pub(in super::super) struct Socket {
        stream: UnixStream,
        buffer: Vec<u8>,
        filled: usize,
    }

    impl Socket {
        pub(super) fn new(stream: UnixStream) -> Socket {
            Socket {
                stream,
                buffer: Vec::new(),
                filled: 0,
            }
        }

        pub(super) async fn recv(&mut self) -> io::Result<Frame> {
            self.fill(HEAD).await?;
            let number = |at: usize| {
                let bytes = [0, 1, 2, 3].map(|i| self.buffer[at + i]);
                u32::from_le_bytes(bytes)
            };
            let (length, tag) = (number(0) as usize, number(4));
            if length > MAX_BODY {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.fill(HEAD + length).await?;
            self.filled = 0;
            let body = self.buffer[HEAD..HEAD + length].to_vec();
            Ok(Frame { tag, body })
        }

        async fn fill(&mut self, wanted: usize) -> io::Result<()> {
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            while self.filled < wanted {
                match read(&self.stream, &mut self.buffer[self.filled..wanted]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    n => self.filled += n,
                }
            }
            Ok(())
        }
    }

    /// Writes frames until their senders are dropped or the other end is closed.
    pub(super) async fn write_all(stream: UnixStream, mut frames: mpsc::Receiver<Frame>) {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut frames).poll_next(cx)).await {
            let mut bytes = Vec::with_capacity(HEAD + frame.body.len());
            bytes.extend((frame.body.len() as u32).to_le_bytes());
            bytes.extend(frame.tag.to_le_bytes());
            bytes.extend(frame.body);
            if write(&stream, &bytes).await.is_err() {
                return; // the receiver reports the closed socket
            }
        }
    }

    async fn read(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match stream.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await?;
                }
                read => return read,
            }
        }
    }

    async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match stream.try_write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
