//! Exercises of chapter 12. The tests are in `checks/ch12.rs`.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use windlass::{Runtime, Task};
use windlass_book::hole;

/// 12.1: Gives the guest a turn per frame until the task has finished, and returns the number of
/// turns. Returns `None` if it takes more than `most`. A turn never waits.
fn turns_until(guest: &Runtime, task: &Task<()>, most: usize) -> Option<usize> {
    let _ = (guest, task, most);
    hole("count the turns, and check the task before each of them")
}

/// 12.2: Waits until the descriptor of the guest is readable, which means that a turn is due, for
/// at most `limit`. Returns whether it is.
fn is_due(guest: &Runtime, limit: Duration) -> bool {
    let _ = (guest, limit);
    hole("`rustix::event::poll` waits for one descriptor, as `epoll::wait` does for many")
}

/// A message to the host.
#[derive(Debug, PartialEq)]
enum Message {
    /// The hook of the guest has posted this.
    Turn,
    /// A key, with its letter.
    Key(char),
    /// The window was closed.
    Close,
}

/// 12.3: The message loop of a host that cannot watch descriptors. Returns the keys when the window
/// is closed. Without a message it waits until the deadline of the guest, and takes a turn then.
fn run_host(guest: &Runtime, messages: &Receiver<Message>) -> String {
    let _ = (guest, messages, Message::Turn, Message::Key(' '));
    hole("`recv_timeout` until `next_deadline`, and a turn after a `Turn` and after a timeout")
}

#[cfg(test)]
#[path = "../checks/ch12.rs"]
mod checks;
