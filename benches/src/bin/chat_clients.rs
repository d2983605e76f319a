//! Members of the chat in `examples/web`, as many WebSockets. `benches/services` starts it.
//!
//! ```text
//! chat_clients ADDRESS ROOMS MEMBERS     # prints "ready" when all have joined
//! ```
//!
//! A number of seconds on the standard input starts a load: in each room, one member after the
//! other says a line, and the next one follows when all have received it. The output is the number
//! of received lines, and the time.

use std::cell::{Cell, RefCell};
use std::env;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use futures::{AsyncReadExt, AsyncWriteExt};
use windlass::net::TcpStream;
use windlass::sync::Event;
use windlass::{spawn, spawn_blocking};

const TEXT: u8 = 1;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The messages that all members have received.
#[derive(Default)]
struct Received {
    lines: Cell<usize>,
    welcomes: Cell<usize>,
    /// A connection has ended too early.
    failed: Cell<bool>,
    changed: Event,
}

impl Received {
    async fn wait(&self, counter: &Cell<usize>, count: usize) -> Result<()> {
        while counter.get() < count {
            if self.failed.get() {
                bail!("a member was disconnected");
            }
            self.changed.listen().await;
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let [_, addr, rooms, members] = &args[..] else {
        bail!("ADDRESS ROOMS MEMBERS");
    };
    windlass::block_on(run(addr, rooms.parse()?, members.parse()?))
}

async fn run(addr: &str, rooms: usize, members: usize) -> Result<()> {
    let received = Rc::<Received>::default();
    let buffer = Rc::new(RefCell::new(vec![0; 64 * 1024]));
    let mut all = Vec::new();
    for number in 0..members {
        let joins = (0..rooms).map(|room| join(addr, room, number));
        let wave = try_join_all(joins).await?;
        for stream in &wave {
            let (received, buffer, stream) = (received.clone(), buffer.clone(), stream.clone());
            let reading = async move {
                let _ = read(&stream, &received, &buffer).await;
                received.failed.set(true);
                received.changed.notify_all();
            };
            spawn(reading).detach();
        }
        all.push(wave);
        received.wait(&received.welcomes, all.len() * rooms).await?;
    }
    println!("ready");
    let mut turn = 0;
    loop {
        let mut line = String::new();
        let read = spawn_blocking(move || io::stdin().read_line(&mut line).map(|_| line)).await;
        let line = read?;
        if line.is_empty() {
            return Ok(());
        }
        let (start, time) = (
            Instant::now(),
            Duration::from_secs_f64(line.trim().parse()?),
        );
        let before = received.lines.get();
        while start.elapsed() < time {
            let target = received.lines.get() + rooms * members;
            for stream in &all[turn % members] {
                send(
                    stream,
                    TEXT,
                    br#"{"kind":"say","text":"ahoy, all hands on deck"}"#,
                )
                .await?;
            }
            received.wait(&received.lines, target).await?;
            turn += 1;
        }
        let (lines, seconds) = (received.lines.get() - before, start.elapsed().as_secs_f64());
        println!("{lines} {seconds}");
    }
}

async fn join(addr: &str, room: usize, number: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head)?;
    text.starts_with("HTTP/1.1 101")
        .then_some(())
        .context(text)?;
    let join = format!(r#"{{"kind":"join","room":"{room}","name":"m{number}","key":"k{number}"}}"#);
    send(&stream, TEXT, join.as_bytes()).await?;
    Ok(stream)
}

/// Sends a message of less than 126 bytes. Its mask is zero.
async fn send(mut stream: &TcpStream, opcode: u8, text: &[u8]) -> io::Result<()> {
    let head = [0x80 | opcode, 0x80 | text.len() as u8, 0, 0, 0, 0];
    stream.write_all(&[&head, text].concat()).await
}

/// Counts messages until the connection ends.
async fn read(
    stream: &TcpStream,
    received: &Received,
    buffer: &RefCell<Vec<u8>>,
) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        stream.readable().await?;
        // The borrow ends here. In a `match`, it would last to its end.
        let read = stream.try_read(&mut buffer.borrow_mut());
        match read {
            Ok(0) => return Ok(()),
            Ok(read) => input.extend_from_slice(&buffer.borrow()[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let mut at = 0;
        while let Some((opcode, payload, size)) = frame(&input[at..]) {
            if opcode == PING {
                send(stream, PONG, payload).await?;
            } else if payload.starts_with(br#"{"kind":"line""#) {
                received.lines.set(received.lines.get() + 1);
            } else if payload.starts_with(br#"{"kind":"welcome""#) {
                received.welcomes.set(received.welcomes.get() + 1);
            } else if opcode != TEXT {
                return Ok(());
            }
            at += size;
        }
        input.drain(..at);
        received.changed.notify_all();
    }
}

/// The opcode, the payload and the size of a frame without a mask.
fn frame(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (start, len) = match *input.get(1)? {
        127 => (
            10,
            u64::from_be_bytes(input.get(2..10)?.try_into().ok()?) as usize,
        ),
        126 => (
            4,
            u16::from_be_bytes(input.get(2..4)?.try_into().ok()?).into(),
        ),
        len => (2, len.into()),
    };
    Some((input[0] & 0x0f, input.get(start..start + len)?, start + len))
}
