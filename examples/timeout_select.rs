//! Time limits, and waiting for the first of several events.
//!
//! ```text
//! cargo run --example timeout_select
//! ```

use std::io;
use std::time::Duration;

use futures::{AsyncReadExt, FutureExt, select};
use windlass::net::{TcpListener, TcpStream};
use windlass::time::{interval, sleep, timeout};

fn main() -> io::Result<()> {
    windlass::block_on(async {
        // A peer that accepts the connection and sends nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await?;
        let mut stream = TcpStream::connect(silent.local_addr()?).await?;

        // `timeout` wraps any future. When the time is up, the future is dropped, which cancels the
        // read here. No data is lost, and the stream can be used further.
        let mut buffer = [0; 16];
        match timeout(Duration::from_millis(300), stream.read(&mut buffer)).await {
            Ok(read) => println!("{} bytes, which nobody has sent", read?),
            Err(elapsed) => println!("no answer: {elapsed}"),
        }

        // `select!` from the futures crate waits for several futures in one task. In each round the
        // branch that is ready first runs, and the others are dropped. A cancelled tick completes
        // in the next round. The deadline is created outside of the loop, so it is the same in all
        // rounds.
        let mut ticks = interval(Duration::from_millis(100));
        let mut deadline = sleep(Duration::from_millis(450)).fuse();
        let mut count = 0;
        loop {
            select! {
                _ = ticks.tick().fuse() => {
                    count += 1;
                    println!("tick {count}");
                }
                read = stream.read(&mut buffer).fuse() => {
                    println!("an answer after all, of {} bytes", read?);
                    break;
                }
                () = deadline => break,
            }
        }
        println!("enough after {count} ticks");
        Ok(())
    })
}
