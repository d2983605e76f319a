//! The reactor with another executor, the `LocalPool` of the futures crate.
//!
//! ```text
//! cargo run --example reactor_alone
//! nc localhost 7009                  # in a second terminal, within 20 seconds
//! ```
//!
//! `windlass_reactor` does not depend on an executor. Sockets and timers store the waker of any
//! executor in the reactor of the thread, and each turn of the reactor wakes the tasks whose events
//! have occurred. If the other executor can be driven as one future,
//! `windlass_reactor::block_on(future)` is the whole loop. A `LocalPool` cannot, so this example
//! writes the loop by hand.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use futures::executor::LocalPool;
use futures::io::AsyncWriteExt;
use futures::task::LocalSpawnExt;
use windlass_reactor::Reactor;
use windlass_reactor::net::TcpListener;
use windlass_reactor::time::{interval, timeout};

fn main() -> io::Result<()> {
    let reactor = Reactor::current()?;
    let mut pool = LocalPool::new();
    let over = Rc::new(Cell::new(None));

    let result = over.clone();
    let server = async move { result.set(Some(greet().await)) };
    let ticking = async {
        let mut ticks = interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            println!("tick");
        }
    };
    let spawner = pool.spawner();
    spawner.spawn_local(server).map_err(io::Error::other)?;
    spawner.spawn_local(ticking).map_err(io::Error::other)?;

    loop {
        pool.run_until_stalled(); // poll all tasks that are ready...
        if let Some(result) = over.take() {
            return result;
        }
        reactor.turn(None)?; // ...then wait for events, and wake the tasks that wait for them
    }
}

/// Greets one client, with a time limit for its connection.
async fn greet() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:7009").await?;
    println!("waiting on {}", listener.local_addr()?);
    let (mut stream, peer) = timeout(Duration::from_secs(20), listener.accept()).await??;
    stream.write_all(b"ahoy from a LocalPool\n").await?;
    println!("greeted {peer}");
    stream.close().await
}
