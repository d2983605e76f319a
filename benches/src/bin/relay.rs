//! Copying between two sockets: `windlass::io::copy` beside the copies of futures.
//!
//! ```text
//! cargo run --release -p windlass-benches --bin relay           # some minutes
//! cargo run --release -p windlass-benches --bin relay -- 16     # in haste: MiB in bulk
//! ```
//!
//! Measures the CPU time of the relaying thread, by the size of a message (the next one is sent
//! when the previous one has arrived), and in bulk. The contenders alternate, round by round, and
//! the ratios are medians over rounds.

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use anyhow::Result;
use futures::io::{BufReader, copy_buf};
use rustix::time::{ClockId, Timespec, clock_gettime};
use windlass::net::TcpStream as AsyncStream;

const ROUNDS: usize = 9;

/// The size of a message, and the number of messages.
const WORKS: [(usize, usize); 5] = [
    (64, 20_000),
    (4096, 20_000),
    (16 * 1024, 10_000),
    (32 * 1024, 10_000),
    (64 * 1024, 5_000),
];

/// Bytes per write and read at both ends.
const PIECE: usize = 1 << 20;

#[derive(Clone, Copy)]
enum Contender {
    CopyBuf,
    Windlass,
    FuturesCopy,
}

const CONTENDERS: [Contender; 3] = [
    Contender::CopyBuf,
    Contender::Windlass,
    Contender::FuturesCopy,
];

fn main() -> Result<()> {
    let bulk: usize = env::args().nth(1).map_or(Ok(1024), |mib| mib.parse())?;
    println!("| bytes a message | `copy_buf`, 64 KiB (µs) | windlass | `futures::io::copy` |");
    println!("|---:|---:|---:|---:|");
    for (message, count) in WORKS.into_iter().chain([(bulk << 20, 1)]) {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let mut times = [0.0; CONTENDERS.len()];
            for (time, contender) in times.iter_mut().zip(CONTENDERS) {
                *time = relay(contender, message, count)?;
            }
            rounds.push(times);
        }
        let time = median(rounds.iter().map(|times| times[0] / count as f64 * 1e6));
        let ratio = |who: usize| median(rounds.iter().map(|times| times[who] / times[0]));
        println!(
            "| {message} | {time:.2} | {:.2} × | {:.2} × |",
            ratio(1),
            ratio(2)
        );
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// CPU time (s) for relaying that many messages.
fn relay(contender: Contender, message: usize, count: usize) -> Result<f64> {
    let ((source, from), (to, sink)) = (pair()?, pair()?);
    let (arrives, arrived) = channel();
    let sending = thread::spawn(move || send(source, message, count, &arrived));
    let receiving = thread::spawn(move || receive(sink, message, &arrives));
    let start = clock_gettime(ClockId::ThreadCPUTime);
    windlass::block_on(async {
        let (from, to) = (AsyncStream::try_from(from)?, AsyncStream::try_from(to)?);
        match contender {
            Contender::CopyBuf => {
                copy_buf(BufReader::with_capacity(1 << 16, &from), &mut &to).await?
            }
            Contender::Windlass => windlass::io::copy(&from, &to).await?,
            Contender::FuturesCopy => futures::io::copy(&from, &mut &to).await?,
        };
        to.shutdown(Shutdown::Write)
    })?;
    let time = seconds(clock_gettime(ClockId::ThreadCPUTime)) - seconds(start);
    sending.join().expect("the sender")?;
    let received = receiving.join().expect("the receiver")?;
    anyhow::ensure!(received == message * count, "{received} bytes have come");
    Ok(time)
}

fn seconds(time: Timespec) -> f64 {
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = TcpStream::connect(listener.local_addr()?)?;
    let there = listener.accept()?.0;
    here.set_nodelay(true)?;
    there.set_nodelay(true)?;
    Ok((here, there))
}

/// The stream is kept open until the thread ends.
fn send(mut to: TcpStream, message: usize, count: usize, arrived: &Receiver<()>) -> Result<()> {
    let data = vec![1; message.min(PIECE)];
    for _ in 0..count {
        let mut left = message;
        while left > 0 {
            let piece = left.min(data.len());
            to.write_all(&data[..piece])?;
            left -= piece;
        }
        arrived.recv()?;
    }
    Ok(())
}

fn receive(mut from: TcpStream, message: usize, arrives: &Sender<()>) -> Result<usize> {
    let mut data = vec![0; PIECE];
    let (mut all, mut part) = (0, 0);
    loop {
        let bytes = from.read(&mut data)?;
        if bytes == 0 {
            return Ok(all);
        }
        all += bytes;
        part += bytes;
        while part >= message {
            part -= message;
            let _ = arrives.send(()); // fails if the sender has finished
        }
    }
}
