//! A server that stops in good order at Ctrl-C, or when it's told to by `kill`.
//!
//! ```text
//! cargo run --example ctrl_c       # an address may follow: -- 0.0.0.0:7009
//! nc localhost 7009                # in a second terminal: what you type comes back
//! ```
//!
//! Then press Ctrl-C in the first: no more connections, but this one goes on until you end it.
//! Pressed once more, it ends at once.

use std::env;
use std::io;
use std::process;

use futures::io::copy;
use windlass::net::TcpListener;
use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken, TaskGroup};

/// What `kill` sends. Windows has but another key.
#[cfg(unix)]
const STOP: Signal = Signal::TERM;
#[cfg(windows)]
const STOP: Signal = Signal::BREAK;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1);
    let addr = addr.as_deref().unwrap_or("127.0.0.1:7009");
    windlass::block_on(async {
        let stop = StopSource::new();
        // Before anything else: a signal that comes now is heard as well.
        let signals = Signals::new([Signal::INT, STOP])?;
        let _listening = windlass::spawn(listen(signals, stop.clone()));
        let listener = TcpListener::bind(addr).await?;
        println!("serving on {}", listener.local_addr()?);
        serve(listener, stop.token()).await
    })
}

/// The first signal asks to stop, the second one doesn't ask.
async fn listen(mut signals: Signals, stop: StopSource) -> io::Result<()> {
    let signal = signals.recv().await?;
    println!("{signal:?}: stopping");
    stop.stop();
    let signal = signals.recv().await?;
    process::exit(128 + signal.as_raw()) // as if the signal had done it
}

async fn serve(listener: TcpListener, stop: StopToken) -> io::Result<()> {
    let connections = TaskGroup::infallible();
    while let Some(accepted) = stop.run(listener.accept()).await {
        let (stream, peer) = accepted?;
        connections.spawn(async move {
            if let Err(error) = copy(&stream, &mut &stream).await {
                eprintln!("{peer}: {error}");
            }
        });
    }
    drop(listener);
    println!("connections that are still open: {}", connections.len());
    connections.close().await;
    println!("all have ended");
    Ok(())
}
