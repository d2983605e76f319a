//! Copying all from one descriptor to another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use windlass_reactor::Async;
use windlass_reactor::net::TcpStream;
#[cfg(unix)]
use windlass_reactor::net::unix::UnixStream;

#[cfg(target_os = "linux")]
use super::splice::{Pipe, Spliced, is_refusal};
use super::{PipeReader, PipeWriter, Stderr, Stdin, Stdout};

/// The size of the buffer. Of larger ones the system calls are no smaller part.
const BUFFER: usize = 64 * 1024;

/// A read that brings so much is taken for the middle of a large transfer: the next one goes by
/// way of a pipe. Less is sooner copied than spliced.
const MUCH: usize = 32 * 1024;

thread_local! {
    /// The buffer of this thread's copies, while none of them has something in it.
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// Copies all from a reader to a writer, until the reader ends, and says how many bytes that were.
/// The writer is not closed.
///
/// Both are what has a descriptor: sockets, pipes, standard streams, those of children; or
/// references to them. For what lies above these, TLS say, there is `futures::io::copy_buf`.
///
/// While it waits to read it holds no memory: the buffer, 64 KiB, is lent by the thread. On Linux
/// large transfers don't come into the program at all: the system moves the pages through a pipe
/// (`splice`). A pipe is lent as well, to up to 16 copies a thread at once; all others have the
/// buffer, and so have all if `SIGPIPE` isn't ignored, since `splice` would send it.
///
/// # Errors
///
/// Those of reading and writing. What was read by then and couldn't be written is lost.
///
/// # Cancel safety
///
/// **May be half done.** If it is dropped, a first part was written, how much is not known, and
/// what was read and not yet written is lost: up to 1 MiB. If it's dropped while it waits to read,
/// nothing is lost.
///
/// # Examples
///
/// ```ignore-windows
/// use futures::{AsyncReadExt, AsyncWriteExt, join};
/// use windlass::{block_on, io::{copy, pipe}, net::unix::UnixStream};
///
/// block_on(async {
///     let (reader, mut writer) = pipe()?;
///     let (here, mut there) = UnixStream::pair()?;
///     writer.write_all(b"ahoy").await?;
///     writer.close().await?;
///     assert_eq!(copy(reader, &here).await?, 4);
///     drop(here);
///     let mut text = String::new();
///     there.read_to_string(&mut text).await?;
///     assert_eq!(text, "ahoy");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy<R, W>(mut reader: R, mut writer: W) -> io::Result<u64>
where
    R: AsyncRead + Descriptor + Unpin,
    W: AsyncWrite + Descriptor + Unpin,
{
    let mut transfer = Transfer::new();
    poll_fn(|cx| transfer.poll(cx, &mut reader, &mut writer)).await
}

/// Copies both ways between two streams, until both have ended. Where one ends, the other one is
/// closed for writing, and still read: so a peer that says all it has to say, and then listens,
/// gets its answer.
///
/// Says how many bytes went from `a` to `b`, and from `b` to `a`.
///
/// # Errors
///
/// The first of either way, as for [`copy`]; the other way isn't waited for.
///
/// # Cancel safety
///
/// **May be half done**, as [`copy`], in both directions.
///
/// # Examples
///
/// ```no_run
/// use windlass::{block_on, io::copy_bidirectional, net::{TcpListener, TcpStream}};
///
/// // A proxy for one connection.
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let (client, _) = listener.accept().await?;
///     let server = TcpStream::connect("127.0.0.1:80").await?;
///     let (asked, answered) = copy_bidirectional(&client, &server).await?;
///     println!("{asked} bytes there, {answered} back");
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy_bidirectional<A, B>(a: &A, b: &B) -> io::Result<(u64, u64)>
where
    for<'a> &'a A: AsyncRead + AsyncWrite + Descriptor,
    for<'b> &'b B: AsyncRead + AsyncWrite + Descriptor,
{
    let mut there = pin!(copy_and_close(a, b));
    let mut back = pin!(copy_and_close(b, a));
    let (mut went, mut came) = (None, None);
    poll_fn(|cx| {
        poll_once(&mut went, there.as_mut(), cx)?;
        poll_once(&mut came, back.as_mut(), cx)?;
        match (went, came) {
            (Some(went), Some(came)) => Poll::Ready(Ok((went, came))),
            _ => Poll::Pending,
        }
    })
    .await
}

async fn copy_and_close<R, W>(reader: R, mut writer: W) -> io::Result<u64>
where
    R: AsyncRead + Descriptor + Unpin,
    W: AsyncWrite + Descriptor + Unpin,
{
    let bytes = copy(reader, &mut writer).await?;
    poll_fn(|cx| Pin::new(&mut writer).poll_close(cx)).await?;
    Ok(bytes)
}

/// Polls what hasn't ended yet.
fn poll_once<T>(
    output: &mut Option<T>,
    future: Pin<&mut impl Future<Output = io::Result<T>>>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    if output.is_none() {
        if let Poll::Ready(result) = future.poll(cx) {
            *output = Some(result?);
        }
    }
    Ok(())
}

/// What [`copy`] can copy from and to: what has a descriptor, and reads and writes just what goes
/// through it. It can't be implemented elsewhere.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no descriptor that `copy` knows",
    note = "`futures::io::copy` and `copy_buf` copy between all that reads and writes"
)]
pub trait Descriptor: Splice {}

mod sealed {
    pub trait Splice {
        /// Returns what has the file descriptor, if that can be spliced.
        #[cfg(target_os = "linux")]
        fn spliced(&self) -> Option<&dyn super::Spliced>;
    }
}
use sealed::Splice;

impl<T: Descriptor + ?Sized> Descriptor for &T {}
impl<T: Descriptor + ?Sized> Descriptor for &mut T {}

macro_rules! by_reference {
    ($($reference:ty),*) => {$(
        impl<T: Splice + ?Sized> Splice for $reference {
            #[cfg(target_os = "linux")]
            fn spliced(&self) -> Option<&dyn Spliced> {
                (**self).spliced()
            }
        }
    )*};
}
by_reference!(&T, &mut T);

macro_rules! descriptors {
    ($($type:ty: $this:ident => $spliced:expr;)*) => {$(
        impl Descriptor for $type {}

        impl Splice for $type {
            #[cfg(target_os = "linux")]
            fn spliced(&self) -> Option<&dyn Spliced> {
                let $this = self;
                $spliced
            }
        }
    )*};
}

// Not every `Async<T>`: `T` need not read from its descriptor what the system would splice.
descriptors! {
    TcpStream: this => Some(this);
    Async<net::TcpStream>: this => Some(this);
    PipeReader: this => Some(this.io());
    PipeWriter: this => this.io().map(|io| io as &dyn Spliced);
    Stdin: _this => None;
    Stdout: _this => None;
    Stderr: _this => None;
}

#[cfg(unix)]
descriptors! {
    UnixStream: this => Some(this);
    Async<std::os::unix::net::UnixStream>: this => Some(this);
    Async<std::fs::File>: this => Some(this);
}

/// A copy that is under way. It reads only when all is written that was read before: so the bytes
/// in between are few, and the pipe is empty whenever it's filled. That settles which side of a
/// `splice` it was that would block.
struct Transfer {
    copied: u64,
    load: Load,
    /// The last read brought much.
    much: bool,
    /// Neither side has refused to be spliced, and there was a pipe.
    #[cfg(target_os = "linux")]
    splices: bool,
}

/// What is between reading and writing.
enum Load {
    Nothing,
    Buffer(Box<[u8]>, Range<usize>),
    #[cfg(target_os = "linux")]
    Pipe(Pipe),
}

impl Transfer {
    fn new() -> Transfer {
        Transfer {
            copied: 0,
            load: Load::Nothing,
            much: false,
            #[cfg(target_os = "linux")]
            splices: true,
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Splice + Unpin),
        writer: &mut (impl AsyncWrite + Splice + Unpin),
    ) -> Poll<io::Result<u64>> {
        let polled = self.poll_all(cx, reader, writer);
        if self.load.is_empty() {
            self.load.give_back();
        }
        polled
    }

    fn poll_all(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Splice + Unpin),
        writer: &mut (impl AsyncWrite + Splice + Unpin),
    ) -> Poll<io::Result<u64>> {
        loop {
            while !self.load.is_empty() {
                self.copied += ready!(self.poll_write(cx, writer))? as u64;
            }
            if ready!(self.poll_read(cx, reader, writer))? == 0 {
                return Poll::Ready(Ok(self.copied));
            }
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut (impl AsyncRead + Splice + Unpin),
        writer: &impl Splice,
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        if self.much && self.splices {
            if let (Some(reader), Some(_)) = (reader.spliced(), writer.spliced()) {
                match ready!(self.poll_fill(cx, reader)) {
                    Err(error) if is_refusal(&error) => self.splices = false,
                    filled => return Poll::Ready(filled),
                }
            }
        }
        let _ = writer; // where there is no `splice`
        let (buffer, filled) = self.load.buffer();
        let bytes = ready!(Pin::new(reader).poll_read(cx, buffer))?;
        *filled = 0..bytes;
        self.much = bytes >= MUCH;
        Poll::Ready(Ok(bytes))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut (impl AsyncWrite + Splice + Unpin),
    ) -> Poll<io::Result<usize>> {
        #[cfg(target_os = "linux")]
        if let (Load::Pipe(pipe), Some(spliced)) = (&mut self.load, writer.spliced()) {
            match ready!(pipe.poll_empty(cx, spliced)) {
                Err(error) if is_refusal(&error) => {
                    self.splices = false;
                    let bytes = pipe.take_all()?;
                    let filled = 0..bytes.len();
                    self.load = Load::Buffer(bytes, filled);
                }
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => return Poll::Ready(written),
            }
        }
        let (buffer, filled) = self.load.buffer();
        let bytes = ready!(Pin::new(writer).poll_write(cx, &buffer[filled.clone()]))?;
        if bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        filled.start += bytes;
        Poll::Ready(Ok(bytes))
    }

    #[cfg(target_os = "linux")]
    fn poll_fill(&mut self, cx: &mut Context<'_>, reader: &dyn Spliced) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.load.pipe()?.poll_fill(cx, reader))?;
        self.much = bytes >= MUCH;
        Poll::Ready(Ok(bytes))
    }
}

impl Load {
    fn is_empty(&self) -> bool {
        match self {
            Load::Nothing => true,
            Load::Buffer(_, filled) => filled.is_empty(),
            #[cfg(target_os = "linux")]
            Load::Pipe(pipe) => pipe.is_empty(),
        }
    }

    /// The buffer, and what of it is filled. What was there instead is empty.
    fn buffer(&mut self) -> (&mut [u8], &mut Range<usize>) {
        if !matches!(self, Load::Buffer(..)) {
            self.give_back();
            let buffer = SPARE.take().unwrap_or_else(|| vec![0; BUFFER].into());
            *self = Load::Buffer(buffer, 0..0);
        }
        match self {
            Load::Buffer(buffer, filled) => (buffer, filled),
            _ => unreachable!("it was made just now"),
        }
    }

    /// The pipe. What was there instead is empty.
    #[cfg(target_os = "linux")]
    fn pipe(&mut self) -> io::Result<&mut Pipe> {
        if !matches!(self, Load::Pipe(_)) {
            self.give_back();
            *self = Load::Pipe(Pipe::lend()?);
        }
        match self {
            Load::Pipe(pipe) => Ok(pipe),
            _ => unreachable!("it was made just now"),
        }
    }

    /// To the thread, for another copy to use.
    fn give_back(&mut self) {
        match mem::replace(self, Load::Nothing) {
            Load::Nothing => {}
            Load::Buffer(buffer, _) if buffer.len() == BUFFER => SPARE.set(Some(buffer)),
            Load::Buffer(..) => {}
            #[cfg(target_os = "linux")]
            Load::Pipe(pipe) => pipe.give_back(),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::{env, fs, process, thread};

    use super::*;

    /// A file that is appended to is one, and says so when there are bytes in the pipe.
    #[test]
    fn what_cannot_be_spliced_to_is_written_to_instead() {
        let path = env::temp_dir().join(format!("windlass-copy-{}", process::id()));
        let file = File::options().append(true).create(true).open(&path);
        let to = Async::new_nonblocking(file.unwrap()).unwrap();
        let (here, mut there) = StdUnixStream::pair().unwrap();
        let data: Vec<u8> = (0..4_000_000_u32).map(|i| (i / 7 % 251) as u8).collect();
        let sent = data.clone();
        let writing = thread::spawn(move || there.write_all(&sent));
        let from = Async::new(here).unwrap();
        let copied = windlass_reactor::block_on(copy(from, to));
        writing.join().unwrap().unwrap();
        assert_eq!(copied.unwrap(), data.len() as u64);
        assert!(fs::read(&path).unwrap() == data);
        fs::remove_file(path).unwrap();
    }
}
