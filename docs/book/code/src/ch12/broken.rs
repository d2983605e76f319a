//! The bug is a turn that waits.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use windlass::Runtime;

use super::program::{FRAME, Window, serve};

static FRAMES: AtomicUsize = AtomicUsize::new(0);
static IS_OVER: AtomicBool = AtomicBool::new(false);

// ANCHOR: game
/// The loop of a game, with the guest's turn as in a loop of its own.
fn game(guest: &Runtime, total: &Cell<i64>, limit: Option<Duration>) -> io::Result<()> {
    let (mut window, mut next) = (Window::default(), Instant::now());
    while !IS_OVER.load(SeqCst) {
        window.draw(total.get());
        FRAMES.store(window.frames, SeqCst);
        guest.turn(limit)?;
        next = (next + FRAME).max(Instant::now());
        thread::sleep(next - Instant::now());
    }
    Ok(())
}
// ANCHOR_END: game

/// Counts the frames with and without a limit, while no client sends anything, and then with one.
pub fn run() -> io::Result<()> {
    let mended = thread::spawn(|| play(Some(Duration::ZERO)));
    thread::sleep(Duration::from_millis(500));
    println!("turn(Some(ZERO)): {} frames in 500 ms", FRAMES.load(SeqCst));
    IS_OVER.store(true, SeqCst);
    mended.join().expect("the game does not panic")?;
    IS_OVER.store(false, SeqCst);

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let broken = thread::spawn(|| play_with(listener, None));
    thread::sleep(Duration::from_millis(500));
    let before = FRAMES.load(SeqCst);
    println!("turn(None): {before} frames in 500 ms");
    let stream = TcpStream::connect(address)?;
    let mut replies = BufReader::new(&stream);
    for _ in 0..10 {
        (&stream).write_all(b"1\n")?;
        replies.read_line(&mut String::new())?;
        thread::sleep(FRAME);
    }
    let frames = FRAMES.load(SeqCst) - before;
    println!("a client sends ten numbers: {frames} frames more");
    IS_OVER.store(true, SeqCst);
    drop(replies);
    drop(stream);
    broken.join().expect("the game does not panic")
}

fn play(limit: Option<Duration>) -> io::Result<()> {
    play_with(TcpListener::bind("127.0.0.1:0")?, limit)
}

fn play_with(listener: TcpListener, limit: Option<Duration>) -> io::Result<()> {
    let (guest, total) = (Runtime::new()?, Rc::new(Cell::new(0)));
    guest.spawn(serve(listener, total.clone())).detach();
    game(&guest, &total, limit)
}
