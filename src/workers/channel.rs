//! What goes between a worker and its parent: frames, by channels between threads and by a Unix
//! socket between processes.

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
#[cfg(unix)]
pub(super) use self::socket::write;

/// How many bytes a message may have.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// How many frames wait in a channel until who sends has to.
const QUEUE: usize = 64;

/// A number that says what it is or whose, and bytes.
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
pub(super) type End = (mpsc::Sender<Frame>, mpsc::Receiver<Frame>);

pub(super) fn ends() -> (End, End) {
    let (to_there, from_here) = mpsc::channel(QUEUE);
    let (to_here, from_there) = mpsc::channel(QUEUE);
    ((to_there, from_there), (to_here, from_here))
}

/// This side's half of the frames that go both ways.
pub(super) struct Link {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Incoming,
    /// Writes to the socket, if there is one, what `outgoing` takes. Ends when that is closed.
    pub(super) writer: Option<Task<()>>,
}

impl Link {
    pub(super) fn by_channel((sender, receiver): End) -> Link {
        Link {
            outgoing: Outgoing::new(sender),
            incoming: Incoming::Channel(receiver),
            writer: None,
        }
    }

    /// Inside of a runtime.
    #[cfg(unix)]
    pub(super) fn by_socket(socket: std::os::unix::net::UnixStream) -> io::Result<Link> {
        let stream = crate::net::unix::UnixStream::try_from(socket)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        Ok(Link {
            outgoing: Outgoing::new(sender),
            incoming: Incoming::Socket(Socket::new(stream.clone())),
            writer: Some(crate::spawn(socket::write_all(stream, receiver))),
        })
    }
}

/// Takes frames for the other side. There is room for some; then who sends has to wait.
///
/// The lock lets one sender wait at a time: a clone of a sender for each would have room of its own
/// in the channel, and so there would be no bound.
#[derive(Clone)]
pub(super) struct Outgoing {
    sender: Rc<Mutex<mpsc::Sender<Frame>>>,
}

impl Outgoing {
    fn new(sender: mpsc::Sender<Frame>) -> Outgoing {
        Outgoing {
            sender: Rc::new(Mutex::new(sender)),
        }
    }

    /// An error if the other side is gone. A send that is dropped has sent nothing.
    pub(super) async fn send(&self, frame: Frame) -> io::Result<()> {
        check(&frame.body)?;
        let mut sender = self.sender.lock().await;
        let ready = poll_fn(|cx| sender.poll_ready(cx)).await;
        let sent = ready.and_then(|()| sender.start_send(frame));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the other side has ended"))
    }

    /// False if there was no room, or the other side is gone.
    pub(super) fn try_send(&self, frame: Frame) -> bool {
        let sender = self.sender.try_lock();
        sender.is_some_and(|mut sender| sender.try_send(frame).is_ok())
    }

    /// What is sent from now on is refused; what was sent is still delivered.
    pub(super) async fn close(&self) {
        self.sender.lock().await.close_channel();
    }
}

pub(super) fn check(body: &[u8]) -> io::Result<()> {
    if body.len() > MAX_BODY {
        let text = format!("a message of {} bytes: {MAX_BODY} at most", body.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

/// Gives the frames of the other side.
pub(super) enum Incoming {
    Channel(mpsc::Receiver<Frame>),
    #[cfg(unix)]
    Socket(Socket),
}

impl Incoming {
    /// None once the other side is gone. May be dropped at any time.
    pub(super) async fn recv(&mut self) -> Option<Frame> {
        match self {
            Incoming::Channel(frames) => poll_fn(|cx| Pin::new(&mut *frames).poll_next(cx)).await,
            #[cfg(unix)]
            Incoming::Socket(socket) => socket.recv().await.ok(),
        }
    }
}

#[cfg(unix)]
mod socket {
    use super::*;
    use crate::net::unix::UnixStream;

    /// The length of the body and the tag, four bytes each.
    const HEAD: usize = 8;

    /// Reads frames; what has come of the next one stays here.
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
                match self.stream.try_read(&mut self.buffer[self.filled..wanted]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Ok(n) => self.filled += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.stream.readable().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }

    /// Writes frames until their senders are gone, or the other side is.
    pub(super) async fn write_all(stream: UnixStream, mut frames: mpsc::Receiver<Frame>) {
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut frames).poll_next(cx)).await {
            let mut bytes = Vec::with_capacity(HEAD + frame.body.len());
            bytes.extend((frame.body.len() as u32).to_le_bytes());
            bytes.extend(frame.tag.to_le_bytes());
            bytes.extend(frame.body);
            if write(&stream, &bytes).await.is_err() {
                return; // the reading half tells of it
            }
        }
    }

    pub(in super::super) async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
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
