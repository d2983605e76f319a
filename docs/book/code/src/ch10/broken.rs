//! The bug is a read under a timeout that keeps its bytes in a local variable.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, BufReader};
use futures::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::{sleep, timeout};

use super::program::cancel_after;

const SILENCE: Duration = Duration::from_millis(50);

// ANCHOR: session
/// Answers numbers. If the client is silent for a moment, it sends a dot and continues to read.
async fn session(mut stream: TcpStream) -> io::Result<()> {
    let mut sum = 0;
    loop {
        let reply = match timeout(SILENCE, read_number(&mut stream)).await {
            Ok(number) => {
                sum += number?;
                format!("{sum}\n")
            }
            Err(_) => ".\n".to_owned(),
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// Reads the bytes of a line, and returns its number.
async fn read_number(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<i64> {
    let mut line = String::new();
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        if byte == *b"\n" {
            return Ok(line.parse().unwrap_or(0));
        }
        line.push(byte[0].into());
    }
}
// ANCHOR_END: session

// ANCHOR: mended
/// Reads the rest of a line. The bytes so far are in `line`, which belongs to the caller.
async fn read_rest(stream: &mut (impl AsyncRead + Unpin), line: &mut String) -> io::Result<i64> {
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        if byte == *b"\n" {
            let number = line.parse().unwrap_or(0);
            line.clear();
            return Ok(number);
        }
        line.push(byte[0].into());
    }
}
// ANCHOR_END: mended

/// Sends a number in two parts, and then cancels both readers at each of their awaits.
pub fn run() -> io::Result<()> {
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut client = TcpStream::connect(listener.local_addr()?).await?;
        let _session = windlass::spawn(session(listener.accept().await?.0));
        let mut replies = BufReader::new(client.clone());

        client.write_all(b"12\n").await?;
        let sum = next_sum(&mut replies).await?;
        println!("12 in one packet: the sum is {sum}");
        client.write_all(b"1").await?;
        sleep(SILENCE * 2).await;
        client.write_all(b"2\n").await?;
        let sum = next_sum(&mut replies).await?;
        println!("1, a pause, and 2: the sum is {sum}, and not 24");
        Ok::<_, io::Error>(())
    })?;
    let (awaits, lost) = lost_by_cancels(false);
    println!("cancelled at each of its {awaits} awaits, it loses bytes at {lost} of them");
    let (awaits, lost) = lost_by_cancels(true);
    println!("mended, and cancelled at each of its {awaits} awaits, at {lost} of them");
    Ok(())
}

/// The next reply that is not a dot.
async fn next_sum(replies: &mut BufReader<TcpStream>) -> io::Result<String> {
    loop {
        let mut reply = String::new();
        replies.read_line(&mut reply).await?;
        if reply != ".\n" {
            return Ok(reply.trim().to_owned());
        }
    }
}

// ANCHOR: cancels
/// Cancels a reader at each of its awaits in turn, and reads again. Returns the number of awaits,
/// and at how many of them bytes were lost.
pub fn lost_by_cancels(is_mended: bool) -> (usize, usize) {
    let mut lost = 0;
    for awaits in 0.. {
        let (mut input, mut line) = (Drip::new(b"12\n"), String::new());
        let mut read = |polls| match is_mended {
            true => cancel_after(polls, read_rest(&mut input, &mut line)),
            false => cancel_after(polls, read_number(&mut input)),
        };
        if read(awaits + 1).is_some() {
            return (awaits, lost);
        }
        let number = read(usize::MAX).expect("the input ends");
        lost += usize::from(!number.is_ok_and(|number| number == 12));
    }
    unreachable!("a reader of three bytes ends")
}
// ANCHOR_END: cancels

/// An input that is pending before each byte.
struct Drip {
    bytes: &'static [u8],
    is_ready: bool,
}

impl Drip {
    fn new(bytes: &'static [u8]) -> Drip {
        let is_ready = false;
        Drip { bytes, is_ready }
    }
}

impl AsyncRead for Drip {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.is_ready = !self.is_ready;
        if self.is_ready {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = buffer.len().min(self.bytes.len()).min(1);
        buffer[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Poll::Ready(Ok(count))
    }
}
