//! What signals tell the supervisor.

use std::io;

use super::message::Command;
use super::supervisor::Event;
use crate::Task;
use crate::sync::mpsc;

/// Listens until the task is dropped.
#[cfg(unix)]
pub(super) fn listen(events: mpsc::Sender<Event>) -> io::Result<Task<()>> {
    use crate::signal::{Signal, Signals};
    let heard = [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1];
    let mut signals = Signals::new(heard)?;
    Ok(crate::spawn(async move {
        while let Ok(signal) = signals.recv().await {
            let command = match signal {
                Signal::HUP => Command::Replace,
                Signal::USR1 => Command::Print,
                _ => Command::Stop,
            };
            if events.send(Event::Command(command)).await.is_err() {
                return;
            }
        }
    }))
}

#[cfg(not(unix))]
pub(super) fn listen(events: mpsc::Sender<Event>) -> io::Result<Task<()>> {
    Ok(crate::spawn(async move {
        while crate::signal::ctrl_c().await.is_ok() {
            if events.send(Event::Command(Command::Stop)).await.is_err() {
                return;
            }
        }
    }))
}
