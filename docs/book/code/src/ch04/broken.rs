//! The bug is a large local variable that lives across a yield.

use std::io;

use windlass::coroutine::{Co, Coroutine, Exchange, State};

use super::program;

// ANCHOR: session
/// Answers each line with its length, and copies it to a buffer first.
async fn session(co: &mut Co<'_, String, usize>, first: String) {
    let mut line = first;
    let mut buffer = [0; 65536];
    loop {
        let length = line.len().min(buffer.len());
        buffer[..length].copy_from_slice(&line.as_bytes()[..length]);
        line = co.yield_(length).await;
    }
}
// ANCHOR_END: session

// ANCHOR: mended
/// Gives the buffer back before it yields.
async fn mended(co: &mut Co<'_, String, usize>, first: String) {
    let mut line = first;
    loop {
        let length = {
            let mut buffer = [0; 65536];
            let length = line.len().min(buffer.len());
            buffer[..length].copy_from_slice(&line.as_bytes()[..length]);
            length
        };
        line = co.yield_(length).await;
    }
}
// ANCHOR_END: mended

/// Prints the sizes of sessions.
pub fn run() -> io::Result<()> {
    let (exchange, other, third) = (Exchange::new(), Exchange::new(), Exchange::new());
    let small = size_of_val(&exchange.body(program::session));
    let large = size_of_val(&other.body(session));
    println!("the session of the chapter has {small} bytes");
    println!("with a buffer it has {large} bytes");
    println!("10,000 of them need {} MiB", large * 10_000 / 1_048_576);
    println!("mended it has {} bytes", size_of_val(&third.body(mended)));
    // Both answer the same.
    let (mut first, mut second) = (Coroutine::new(session), Coroutine::new(mended));
    let line = || "hello".to_owned();
    assert_eq!(first.resume(line()), State::Yielded(5));
    assert_eq!(second.resume(line()), State::Yielded(5));
    Ok(())
}
