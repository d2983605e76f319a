//! A chat server that forwards each line to everybody else in the room.
//!
//! ```text
//! cargo run --example chat           # an address may follow: -- 0.0.0.0:7008
//! nc localhost 7008                  # in two more terminals: your first line is your name
//! ```
//!
//! The room is an `Rc<RefCell<..>>`. All tasks share one thread, so a lock is unnecessary. But no
//! borrow may be held across an `.await`.
//!
//! Each member has a queue of outgoing lines. A member that reads so slowly that the queue is full
//! is disconnected, so that it cannot use up the server's memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::io::{self, ErrorKind::InvalidData};
use std::net::Shutdown;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::mpsc::{self, Receiver, Sender};
use futures::future::{self, Either};
use futures::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use futures::stream::StreamExt;
use windlass::net::{TcpListener, TcpStream};
use windlass::time::sleep;

const QUEUE_LINES: usize = 64;
const LINE_BYTES: usize = 1024;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7008");
    windlass::block_on(async {
        let listener = TcpListener::bind(addr).await?;
        println!("chatting on {}", listener.local_addr()?);
        let room = Rc::new(RefCell::new(Room::default()));
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    eprintln!("{error}");
                    continue;
                }
            };
            let room = room.clone();
            let connection = async move {
                if let Err(error) = serve(&stream, room).await {
                    eprintln!("{peer}: {error}");
                }
            };
            windlass::spawn(connection).detach();
        }
    })
}

pub(crate) async fn serve(stream: &TcpStream, room: Rc<RefCell<Room>>) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(stream), stream);
    output.write_all(b"Your name? ").await?;
    let Some(name) = read_line(&mut input).await? else {
        return Ok(());
    };
    let Some((membership, queue)) = Membership::join(room, &name, stream) else {
        let refusal = b"That name is invalid or taken.\n";
        return output.write_all(refusal).await;
    };
    // Whichever ends first ends both. Then the member leaves the room.
    let receiving = Box::pin(receive_lines(input, &membership));
    let sending = Box::pin(send_lines(output, queue));
    match future::select(receiving, sending).await {
        Either::Left((ended, _)) | Either::Right((ended, _)) => ended,
    }
}

/// From the member to the room.
async fn receive_lines(
    mut input: BufReader<&TcpStream>,
    membership: &Membership,
) -> io::Result<()> {
    while let Some(line) = read_line(&mut input).await? {
        let line = format!("{}: {line}\n", membership.name);
        membership
            .room
            .borrow_mut()
            .broadcast(membership.number, &line);
        // One line per turn, so that a member that pastes a book does not overflow the others'
        // queues.
        sleep(Duration::ZERO).await;
    }
    Ok(())
}

/// From the room to the member. Writes all queued lines at once.
async fn send_lines(mut output: &TcpStream, mut queue: Receiver<Rc<str>>) -> io::Result<()> {
    while let Some(lines) = queue.by_ref().ready_chunks(QUEUE_LINES).next().await {
        output.write_all(lines.concat().as_bytes()).await?;
    }
    Ok(())
}

/// Returns a line without its line end, or `None` after the last.
async fn read_line(input: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut limited = input.take(LINE_BYTES as u64);
    limited.read_until(b'\n', &mut line).await?;
    if line.len() == LINE_BYTES && !line.ends_with(b"\n") {
        return Err(io::Error::new(InvalidData, "sent a line that is too long"));
    }
    let text = String::from_utf8_lossy(&line);
    // No control characters, so that nobody can send escape sequences to the others' terminals.
    let plain = text.chars().filter(|c| !c.is_control()).collect();
    Ok((!line.is_empty()).then_some(plain))
}

/// The members, by number.
#[derive(Default)]
pub(crate) struct Room {
    members: BTreeMap<u64, Member>,
    joined: u64,
}

struct Member {
    name: Rc<str>,
    queue: Sender<Rc<str>>,
    stream: TcpStream,
}

impl Room {
    /// Queues a line for everybody except its sender.
    fn broadcast(&mut self, speaker: u64, line: &str) {
        let line: Rc<str> = line.into();
        self.members.retain(|&number, member| {
            if number == speaker || member.queue.try_send(line.clone()).is_ok() {
                return true;
            }
            eprintln!("{} reads too slowly, disconnected", member.name);
            // Closing the connection ends the member's tasks. An error means that it is closed
            // already.
            let _ = member.stream.shutdown(Shutdown::Both);
            false
        });
    }
}

/// A membership of the room. Dropping it leaves the room.
struct Membership {
    room: Rc<RefCell<Room>>,
    number: u64,
    name: Rc<str>,
}

impl Membership {
    fn join(
        room: Rc<RefCell<Room>>,
        name: &str,
        stream: &TcpStream,
    ) -> Option<(Membership, Receiver<Rc<str>>)> {
        let name: Rc<str> = name.trim().into();
        let mut guard = room.borrow_mut();
        if name.is_empty() || guard.members.values().any(|member| member.name == name) {
            return None;
        }
        let (queue, lines) = mpsc::channel(QUEUE_LINES);
        guard.joined += 1;
        let number = guard.joined;
        let member = Member {
            name: name.clone(),
            queue,
            stream: stream.clone(),
        };
        guard.members.insert(number, member);
        guard.broadcast(number, &format!("* {name} has joined\n"));
        drop(guard);
        Some((Membership { room, number, name }, lines))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut room = self.room.borrow_mut();
        room.members.remove(&self.number);
        room.broadcast(self.number, &format!("* {} has left\n", self.name));
    }
}
