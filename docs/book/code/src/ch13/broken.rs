//! The bug is a `static` in a program that runs in several processes.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use futures::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use windlass::net::TcpStream;
use windlass::workers::Worker;

use super::service::{Client, Program, Service};

// ANCHOR: session
/// The total of all clients.
static TOTAL: AtomicI64 = AtomicI64::new(0);

async fn session(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.clone());
    let mut line = String::new();
    while lines.read_line(&mut line).await? > 0 {
        let reply = match line.trim() {
            "process" => std::process::id().to_string(),
            "total" => TOTAL.load(SeqCst).to_string(),
            number => {
                let number = number.parse().unwrap_or(0);
                (TOTAL.fetch_add(number, SeqCst) + number).to_string()
            }
        };
        stream.write_all(format!("{reply}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
// ANCHOR_END: session

/// Runs processes with the bug.
pub fn run_processes(address: &str, count: usize) -> io::Result<()> {
    let session = |stream, _| async { drop(session(stream).await) };
    windlass::workers()
        .processes()
        .count(count)
        .listen(address)?
        .run(move |worker: Worker| async move { worker.serve(session).await })
}

/// Connects a client to each of two processes, and compares their totals.
pub fn run() -> io::Result<()> {
    for (program, name) in [(Program::Broken, "a static"), (Program::Good, "the parent")] {
        let service = Service::start(program, 2)?;
        let processes = service.processes(2)?;
        let mut clients = service.clients(&processes, 1)?;
        let total = |client: &mut Client, number: &str| {
            client.request(number)?;
            client.request("total")
        };
        println!("the total is in {name}");
        println!("  client 1 sends 5: {}", total(&mut clients[0], "5")?);
        println!("  client 2 sends 6: {}", total(&mut clients[1], "6")?);
    }
    Ok(())
}
