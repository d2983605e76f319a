//! Time limits, and waiting for whatever comes first.
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
        // A peer that takes the connection and then says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await?;
        let mut stream = TcpStream::connect(silent.local_addr()?).await?;

        // `timeout` wraps any future. When the time is up the future is dropped, which here gives
        // up the read; nothing is lost, and the stream can be used further.
        let mut buffer = [0; 16];
        match timeout(Duration::from_millis(300), stream.read(&mut buffer)).await {
            Ok(read) => println!("{} bytes, which nobody has sent", read?),
            Err(elapsed) => println!("no answer: {elapsed}"),
        }

        // `select!` from the futures crate waits for several things at once, in this one task. In
        // each round the branch that is ready first runs, and the others are dropped. A tick that
        // is given up comes in the next round; the deadline, which is made outside of the loop, is
        // the same one in all rounds.
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
