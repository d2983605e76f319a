//! Signals, as commands to the supervisor.

use std::io;

use super::message::{Command, Origin};
use super::supervisor::Event;
use crate::Task;
use crate::sync::mpsc;

/// Handles signals until the task is dropped.
#[cfg(unix)]
pub(super) fn listen(events: mpsc::Sender<Event>) -> io::Result<Task<()>> {
    use crate::signal::{Signal, Signals};
    let watched = [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1];
    let mut signals = Signals::new(watched.into_iter().filter(|&it| !stays_ignored(it)))?;
    Ok(crate::spawn(async move {
        while let Ok(signal) = signals.recv().await {
            let command = match signal {
                Signal::HUP => Command::Reload,
                Signal::USR1 => Command::LogMetrics,
                _ => Command::Stop(Origin::Signal),
            };
            if events.send(Event::Command(command)).await.is_err() {
                return;
            }
        }
    }))
}

/// Returns true for SIGHUP and SIGINT if they are ignored. `nohup` starts programs with SIGHUP
/// ignored, and a shell starts background programs (`&`) with SIGINT ignored. SIGTERM is always
/// handled, because otherwise only SIGKILL could end the program.
#[cfg(unix)]
pub(super) fn stays_ignored(signal: crate::signal::Signal) -> bool {
    use crate::signal::Signal;
    if ![Signal::HUP, Signal::INT].contains(&signal) {
        return false;
    }
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the pointer is valid for a write of a `sigaction`, and with a null pointer as the new
    // action the call changes nothing. After a successful call `action` is initialized.
    let handler = unsafe {
        match libc::sigaction(signal.as_raw(), std::ptr::null(), action.as_mut_ptr()) {
            0 => action.assume_init().sa_sigaction,
            _ => return false,
        }
    };
    handler == libc::SIG_IGN
}

#[cfg(not(unix))]
pub(super) fn listen(events: mpsc::Sender<Event>) -> io::Result<Task<()>> {
    Ok(crate::spawn(async move {
        while crate::signal::ctrl_c().await.is_ok() {
            let stop = Event::Command(Command::Stop(Origin::Signal));
            if events.send(stop).await.is_err() {
                return;
            }
        }
    }))
}
