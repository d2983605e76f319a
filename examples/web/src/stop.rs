//! Ctrl-C and SIGTERM.

use std::io;
use std::process;

use windlass::signal::{Signal, Signals};
use windlass::task::{StopSource, StopToken};

/// Returns a token that the first Ctrl-C or SIGTERM stops. The second one exits the process.
///
/// # Errors
///
/// Returns an error if the process is out of file descriptors.
///
/// # Panics
///
/// Panics outside of a runtime.
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
    // the exit status of a process that was killed by the signal
    process::exit(128 + signal.as_raw())
}
