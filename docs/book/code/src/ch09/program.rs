//! The server on windlass. Its sessions are tasks of one thread, and share a board without a lock.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use futures::io::BufReader;
use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt};
use windlass::net::unix::UnixStream;
use windlass::net::{TcpListener, TcpStream};
use windlass::sync::Mutex;

// ANCHOR: board
/// The numbers of all clients. `total` is the sum of exactly `count` of them.
#[derive(Debug, Default)]
pub struct Board {
    total: i64,
    count: i64,
}

impl Board {
    /// Adds a number.
    pub fn add(&mut self, number: i64) {
        self.total += number;
        self.count += 1;
    }

    /// Returns the average of all numbers so far.
    pub fn average(&self) -> i64 {
        self.total / self.count.max(1)
    }
}
// ANCHOR_END: board

// ANCHOR: session
/// Answers each number with the client's sum, and the line `average` with the average of all.
pub async fn session(mut stream: TcpStream, board: Rc<RefCell<Board>>) -> io::Result<()> {
    let mut lines = BufReader::new(stream.clone()).lines();
    let mut sum = 0;
    while let Some(line) = lines.next().await {
        let reply = match line?.trim() {
            "average" => board.borrow().average(),
            number => {
                let number = number.parse().unwrap_or(0);
                board.borrow_mut().add(number);
                sum += number;
                sum
            }
        };
        stream.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}
// ANCHOR_END: session

// ANCHOR: serve
/// Accepts clients, and starts a task for each.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    windlass::block_on(async {
        let listener = TcpListener::try_from(listener)?;
        let board = Rc::new(RefCell::new(Board::default()));
        loop {
            let (stream, _) = listener.accept().await?;
            windlass::spawn(session(stream, board.clone())).detach();
        }
    })
}
// ANCHOR_END: serve

// ANCHOR: auditor
/// The connection to an auditor, which answers each number with `yes` or `no`.
#[derive(Debug)]
pub struct Auditor(Mutex<BufReader<UnixStream>>);

impl Auditor {
    /// Takes the connection, which all sessions share.
    pub fn new(stream: UnixStream) -> Auditor {
        Auditor(Mutex::new(BufReader::new(stream)))
    }

    /// Asks the auditor.
    pub async fn approves(&self, number: i64) -> io::Result<bool> {
        let mut stream = self.0.lock().await;
        stream.write_all(format!("{number}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        Ok(answer == "yes\n")
    }
}
// ANCHOR_END: auditor
