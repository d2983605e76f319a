//! Sums numbers for its clients, with windlass's idioms.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use futures::{AsyncBufReadExt, AsyncWriteExt, StreamExt, io::BufReader};
use windlass::net::{TcpListener, TcpStream};
use windlass::task::{StopSource, StopToken, TaskGroup};
use windlass::time::timeout;

/// Answers until it is stopped. Each connection then ends after its current line.
pub(crate) async fn serve(listener: TcpListener, stop: StopToken) -> io::Result<()> {
    let sum = Rc::new(Cell::new(0));
    let connections = TaskGroup::independent(); // an output of `()` takes no memory
    while let Some(accepted) = stop.run(listener.accept()).await {
        let (stream, _) = accepted?; // an error drops the group, which cancels the connections
        connections.spawn(converse(stream, sum.clone(), stop.clone()));
    }
    connections.close().await;
    Ok(())
}

async fn converse(stream: TcpStream, sum: Rc<Cell<i64>>, stop: StopToken) {
    let mut writer = stream.clone(); // both clones read and write
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = stop.run(timeout(Duration::from_secs(10), lines.next()));
        let Some(Ok(Some(Ok(line)))) = line.await else {
            break;
        };
        let Ok(number) = line.parse::<i64>() else {
            break;
        };
        sum.set(sum.get() + number);
        let total = sum.get();
        if writer
            .write_all(format!("{total}\n").as_bytes())
            .await
            .is_err()
        {
            break;
        }
    }
    let _ = writer.close().await;
}

/// Sends the numbers and returns the last sum.
pub(crate) async fn add(addr: SocketAddr, numbers: &[i64]) -> io::Result<i64> {
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    let mut line = String::new();
    for number in numbers {
        stream.write_all(format!("{number}\n").as_bytes()).await?;
        line.clear();
        stream.read_line(&mut line).await?;
    }
    stream.close().await?;
    line.trim().parse().map_err(io::Error::other)
}

pub(crate) fn main() -> io::Result<()> {
    windlass::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let stop = StopSource::new();
        let server = windlass::spawn(serve(listener, stop.token()));
        println!("the sum is {}", add(addr, &[1, 2, 3]).await?);
        stop.stop();
        server.await
    })
}
