//! A program with a window, and the server as a guest on its thread.

// ANCHOR: imports
use std::cell::Cell;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use windlass::net::{TcpListener, TcpStream};
use windlass::{Runtime, spawn};
// ANCHOR_END: imports

// ANCHOR: window
/// A window that shows the total as a bar. Nothing in it knows of sockets or tasks.
#[derive(Debug)]
pub struct Window {
    pixels: Vec<u32>,
    /// The number of frames so far.
    pub frames: usize,
}

impl Window {
    /// Draws the bar.
    pub fn draw(&mut self, total: i64) {
        self.frames += 1;
        for (i, pixel) in self.pixels.iter_mut().enumerate() {
            let is_bar = (i % 640) as i64 <= total % 640;
            *pixel = if is_bar { 0x00ff_8800 } else { 0x0020_2020 };
        }
    }
}
// ANCHOR_END: window

impl Default for Window {
    fn default() -> Window {
        let pixels = vec![0; 640 * 360];
        Window { pixels, frames: 0 }
    }
}

// ANCHOR: serve
/// The server, with the total that the window shows.
pub async fn serve(listener: std::net::TcpListener, total: Rc<Cell<i64>>) -> io::Result<()> {
    let listener = TcpListener::try_from(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let session = session(stream, total.clone());
        spawn(async { drop(session.await) }).detach();
    }
}
// ANCHOR_END: serve

async fn session(mut stream: TcpStream, total: Rc<Cell<i64>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.clone());
    let (mut line, mut sum) = (String::new(), 0);
    while lines.read_line(&mut line).await? > 0 {
        let number = line.trim().parse::<i64>().unwrap_or(0);
        total.set(total.get() + number);
        sum += number;
        stream.write_all(format!("{sum}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

// ANCHOR: game
/// The time from one frame to the next, at 60 frames per second.
pub const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// The loop of a game. Each frame has two milliseconds for the guest.
pub fn game(
    guest: &Runtime,
    total: &Cell<i64>,
    mut is_open: impl FnMut() -> bool,
) -> io::Result<()> {
    let (mut window, mut next) = (Window::default(), Instant::now());
    while is_open() {
        window.draw(total.get());
        guest.turn_for(Duration::from_millis(2))?;
        next = (next + FRAME).max(Instant::now());
        thread::sleep(next - Instant::now());
    }
    Ok(())
}
// ANCHOR_END: game

// ANCHOR: messages
const KEYS: u64 = 0;
const GUEST: u64 = 1;

/// The message loop of an editor. It draws after each key, and ends at the key `q`.
pub fn editor(guest: &Runtime, total: &Cell<i64>, mut keys: UnixStream) -> io::Result<usize> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &keys, EventData::new_u64(KEYS), EventFlags::IN)?;
    epoll::add(&epoll, guest, EventData::new_u64(GUEST), EventFlags::IN)?;
    let (mut window, mut turns, mut key) = (Window::default(), 0, [0]);
    let mut events = Vec::with_capacity(16);
    while key != *b"q" {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            if event.data.u64() == GUEST {
                guest.turn(Some(Duration::ZERO))?;
                turns += 1;
            } else {
                keys.read_exact(&mut key)?;
                window.draw(total.get());
            }
        }
    }
    Ok(turns)
}
// ANCHOR_END: messages
