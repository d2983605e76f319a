//! Ctrl-C and SIGTERM.

use std::io;
use std::process;

use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken};

/// Gives a token that is stopped by the first Ctrl-C or SIGTERM. The second one ends the process at
/// once.
///
/// # Errors
///
/// If the system has no descriptor left to listen with.
///
/// # Panics
///
/// Outside of a runtime.
pub fn stop_at_signals() -> io::Result<StopToken> {
    let stop = StopSource::new();
    let token = stop.token();
    let signals = Signals::new([Signal::INT, Signal::TERM])?;
    windlass::spawn(listen(signals, stop)).detach();
    Ok(token)
}

async fn listen(mut signals: Signals, stop: StopSource) -> io::Result<()> {
    let signal = signals.recv().await?;
    eprintln!("{signal:?}: stopping");
    stop.stop();
    let signal = signals.recv().await?;
    process::exit(128 + signal.as_raw()) // as if the signal had done it
}
