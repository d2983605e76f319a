//! A Redis client written by hand. The commands of all tasks share one connection and are
//! pipelined.

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind};
use std::rc::Rc;

use futures::future::try_join;
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use windlass::Task;
use windlass::net::{TcpStream, ToAddrs};
use windlass::sync::{Event, Permit, Semaphore, oneshot};

/// Maximum number of commands in flight. Further commands wait for replies.
pub const IN_FLIGHT: usize = 512;

/// Limits of replies. The length of a line or a string is in bytes, and `DEPTH` is the nesting of
/// lists.
const LINE: u64 = 64 * 1024;
const STRING: usize = 64 * 1024 * 1024;
const DEPTH: usize = 16;

/// A reply of the server, in version 2 of its protocol (RESP).
#[derive(Debug, PartialEq)]
pub enum Reply {
    Status(String),
    Error(String),
    Integer(i64),
    /// A byte string; `Nil` if there is none.
    Bytes(Vec<u8>),
    List(Vec<Reply>),
    Nil,
}

/// The reason for a missing reply.
#[derive(Debug)]
pub enum Error {
    /// The server rejected the command. The connection remains usable.
    Refused(String),
    /// The connection has ended. It is unknown whether the server has executed the command.
    Ended(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(text) => write!(f, "refused: {text}"),
            Error::Ended(text) => write!(f, "the connection has ended: {text}"),
        }
    }
}

impl std::error::Error for Error {}

/// A connection. Dropping it disconnects. Commands in flight borrow it.
#[derive(Debug)]
pub struct Client {
    shared: Rc<Shared>,
    _connection: Task<()>,
}

#[derive(Debug)]
struct Shared {
    places: Rc<Semaphore>,
    /// Encoded commands that are not written yet.
    out: RefCell<Vec<u8>>,
    has_out: Event,
    /// The tasks that wait for a reply, in the order of their commands.
    due: RefCell<VecDeque<Waiting>>,
    ended: OnceCell<String>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Reply>,
    _place: Permit<Rc<Semaphore>>,
}

impl Client {
    pub async fn connect(addr: impl ToAddrs) -> io::Result<Client> {
        let stream = TcpStream::connect(addr).await?;
        let shared = Rc::new(Shared {
            places: Rc::new(Semaphore::new(IN_FLIGHT)),
            out: RefCell::default(),
            has_out: Event::new(),
            due: RefCell::default(),
            ended: OnceCell::new(),
        });
        let _connection = windlass::spawn(converse(stream, shared.clone()));
        Ok(Client {
            shared,
            _connection,
        })
    }

    /// Sends a command and waits for the reply. If the future is dropped, the command is sent
    /// nevertheless, and its reply is discarded.
    pub async fn call<W: AsRef<[u8]>>(&self, command: &[W]) -> Result<Reply, Error> {
        let shared = &self.shared;
        let place = shared.places.clone().acquire_owned(1).await;
        let place = place.map_err(|_| shared.error())?;
        // The permit may have been granted just before the end.
        if shared.ended.get().is_some() {
            return Err(shared.error());
        }
        let mut encoded = Vec::new();
        // calls `as_ref`, which may be user code, so nothing is borrowed
        encode(command, &mut encoded);
        let (answer, reply) = oneshot::channel();
        let due = Waiting {
            answer,
            _place: place,
        };
        shared.due.borrow_mut().push_back(due);
        shared.out.borrow_mut().append(&mut encoded);
        shared.has_out.notify_one();
        match reply.await {
            Ok(Reply::Error(text)) => Err(Error::Refused(text)),
            Ok(reply) => Ok(reply),
            Err(_) => Err(shared.error()),
        }
    }
}

impl Shared {
    fn error(&self) -> Error {
        Error::Ended(self.ended.get().cloned().unwrap_or_default())
    }
}

/// Writes commands and reads replies concurrently, so that neither end can deadlock by waiting for
/// the other to read.
async fn converse(stream: TcpStream, shared: Rc<Shared>) {
    let Err(error) = try_join(write(&stream, &shared), read(&stream, &shared)).await;
    let due = shared.due.take();
    let _ = shared
        .ended
        .set(format!("{error}; answers due: {}", due.len()));
    shared.places.close();
    drop(due); // which notifies the waiting tasks
}

/// Sends all queued commands together.
async fn write(mut stream: &TcpStream, shared: &Shared) -> io::Result<Infallible> {
    loop {
        let out = shared.out.take();
        if out.is_empty() {
            shared.has_out.listen().await;
        }
        stream.write_all(&out).await?;
    }
}

async fn read(stream: &TcpStream, shared: &Shared) -> io::Result<Infallible> {
    let mut input = BufReader::new(stream);
    loop {
        let reply = read_reply(&mut input, DEPTH).await?;
        let due = shared.due.borrow_mut().pop_front();
        let due = due.ok_or_else(|| invalid("a reply without a command"))?;
        let _ = due.answer.send(reply); // fails if the task was dropped
    }
}

/// A command is a list of strings, each prefixed by its length.
fn encode<W: AsRef<[u8]>>(command: &[W], out: &mut Vec<u8>) {
    out.extend(format!("*{}\r\n", command.len()).bytes());
    for word in command.iter().map(AsRef::as_ref) {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend([word, b"\r\n"].concat());
    }
}

async fn read_reply(input: &mut BufReader<&TcpStream>, depth: usize) -> io::Result<Reply> {
    let line = read_line(input).await?;
    let mut chars = line.chars();
    let kind = chars.next();
    let rest = chars.as_str();
    let number = || {
        rest.parse::<i64>()
            .map_err(|_| invalid("a line without a number"))
    };
    Ok(match kind {
        Some('+') => Reply::Status(rest.to_owned()),
        Some('-') => Reply::Error(rest.to_owned()),
        Some(':') => Reply::Integer(number()?),
        Some('$' | '*') if number()? == -1 => Reply::Nil,
        Some('$') => Reply::Bytes(read_bytes(input, number()?).await?),
        Some('*') if depth > 0 => {
            let mut list = Vec::new(); // the capacity is not taken from untrusted input
            for _ in 0..number()? {
                list.push(Box::pin(read_reply(input, depth - 1)).await?);
            }
            Reply::List(list)
        }
        _ => return Err(invalid("a line that is no reply")),
    })
}

async fn read_line(input: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    input.take(LINE).read_line(&mut line).await?;
    match line.strip_suffix("\r\n") {
        Some(text) => Ok(text.to_owned()),
        None if line.len() as u64 == LINE => Err(invalid("a line that is too long")),
        None => Err(io::Error::new(
            ErrorKind::UnexpectedEof,
            "the server has disconnected",
        )),
    }
}

async fn read_bytes(input: &mut BufReader<&TcpStream>, length: i64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= STRING);
    let length = length.ok_or_else(|| invalid("a string that is too long"))?;
    let mut bytes = vec![0; length + 2];
    input.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(bytes)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the server has sent {what}"),
    )
}
