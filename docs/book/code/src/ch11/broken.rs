//! The bug is that the loop itself calls the library, and computes without a pause.

use std::io::{self, BufRead, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use windlass::inspect::{Activity, Stall, Watchdog};
use windlass::{block_on, net, spawn};

use super::program;

/// Waits for the device on one of its bad days.
fn sign(sum: i64) -> i64 {
    thread::sleep(Duration::from_millis(580));
    program::sign(sum)
}

/// Tries all divisors without a pause.
pub(crate) fn is_prime(number: i64) -> bool {
    number > 1
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| number % divisor != 0)
}

// ANCHOR: session
async fn session(mut stream: net::TcpStream, sign: fn(i64) -> i64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.clone());
    let (mut line, mut sum) = (String::new(), 0);
    while lines.read_line(&mut line).await? > 0 {
        let reply = match line.trim() {
            "sign" => sign(sum).to_string(),
            "prime" => is_prime(sum).to_string(),
            number => {
                sum += number.parse::<i64>().unwrap_or(0);
                sum.to_string()
            }
        };
        stream.write_all(format!("{reply}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session

fn serve_with(listener: TcpListener, sign: fn(i64) -> i64) -> io::Result<()> {
    block_on(async {
        let listener = net::TcpListener::try_from(listener)?;
        for number in 1.. {
            let (stream, _) = listener.accept().await?;
            spawn(async move { drop(session(stream, sign).await) })
                .named(format!("client {number}"))
                .detach();
        }
        Ok(())
    })
}

/// Serves with the bug, and with the device of the chapter.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    serve_with(listener, program::sign)
}

/// Lets one client wait for a signature, and a second one for a sum.
pub fn run() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (reports, stalls) = mpsc::channel();
    // ANCHOR: watchdog
    let watchdog = Watchdog::builder()
        .threshold(Duration::from_millis(50))
        .on_stall(move |stall| drop(reports.send(stall.clone())))
        .start()?;
    // ANCHOR_END: watchdog
    thread::spawn(|| serve_with(listener, sign));

    let (first, second) = (TcpStream::connect(address)?, TcpStream::connect(address)?);
    for (stream, number) in [(&first, 5), (&second, 6)] {
        request(stream, &number.to_string())?;
    }
    (&first).write_all(b"sign\n")?;
    println!("client 1 asks for a signature");
    print(&stalls.recv().map_err(io::Error::other)?);
    (&second).write_all(b"1\n")?;
    println!("client 2 sends 1");
    second.set_read_timeout(Some(Duration::from_millis(250)))?;
    if reply(&second).is_err() {
        println!("client 2 has no reply after 250 ms");
    }
    second.set_read_timeout(None)?;
    println!("client 1 receives {}", reply(&first)?);
    println!("client 2 receives {}", reply(&second)?);
    watchdog.stop();
    Ok(())
}

fn print(stall: &Stall) {
    let task = stall.task.as_ref().and_then(|task| task.name.as_deref());
    let call = match stall.activity {
        Activity::SystemCall { name, .. } => name.unwrap_or("another one"),
        _ => "none",
    };
    println!("stalled task: {}", task.unwrap_or("unknown"));
    println!("stalled for {} ms", stall.duration.as_millis());
    println!("system call: {call}");
}

/// Sends a line, and returns the reply.
pub(super) fn request(mut stream: &TcpStream, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    reply(stream)
}

fn reply(stream: &TcpStream) -> io::Result<String> {
    let mut reply = String::new();
    io::BufReader::with_capacity(64, stream).read_line(&mut reply)?;
    Ok(reply.trim().to_owned())
}
