//! A server that calls a library that blocks, computes for long, and reads a file.

// ANCHOR: imports
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use windlass::net::{TcpListener, TcpStream};
use windlass::{Pool, block_on, fs, spawn, yield_now};
// ANCHOR_END: imports

// ANCHOR: sign
/// A function of a library. It waits for a device that signs the sum, and knows nothing of loops.
pub fn sign(sum: i64) -> i64 {
    thread::sleep(Duration::from_millis(20));
    sum ^ 0x5eed
}
// ANCHOR_END: sign

/// A text for the users.
pub const HELP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ch11/help.txt");

// ANCHOR: session
/// The threads for the library, which has four devices.
pub static LIBRARY: Pool = Pool::new("library", 4, Duration::from_secs(10));

/// Answers each number with the client's sum, and a few words with more than that.
async fn session(mut stream: TcpStream, total: Rc<Cell<i64>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.clone());
    let (mut line, mut sum) = (String::new(), 0);
    while lines.read_line(&mut line).await? > 0 {
        let reply = match line.trim() {
            "sign" => LIBRARY.run(move || sign(sum))?.await.to_string(),
            "prime" => is_prime(sum).await.to_string(),
            "help" => fs::read_to_string(HELP).await?.trim().to_owned(),
            number => {
                let number = number.parse::<i64>().unwrap_or(0);
                total.set(total.get() + number);
                sum += number;
                sum.to_string()
            }
        };
        stream.write_all(format!("{reply}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session

// ANCHOR: prime
/// Tries all divisors, and lets other tasks run after each hundred of them.
pub async fn is_prime(number: i64) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number % divisor == 0 {
            return false;
        }
        divisor += 1;
        if divisor % 100 == 0 {
            yield_now().await;
        }
    }
    number > 1
}
// ANCHOR_END: prime

/// Accepts clients, and starts a task for each.
pub fn serve(listener: std::net::TcpListener) -> io::Result<()> {
    block_on(async {
        let listener = TcpListener::try_from(listener)?;
        let total = Rc::new(Cell::new(0));
        loop {
            let (stream, _) = listener.accept().await?;
            let session = session(stream, total.clone());
            spawn(async { drop(session.await) })
                .named("session")
                .detach();
        }
    })
}
