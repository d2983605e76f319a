//! Solutions of chapter 12.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use windlass::{Runtime, Task};

fn turns_until(guest: &Runtime, task: &Task<()>, most: usize) -> Option<usize> {
    let mut turns = 0;
    while !task.is_finished() {
        if turns == most {
            return None;
        }
        guest.turn(Some(Duration::ZERO)).unwrap();
        turns += 1;
    }
    Some(turns)
}

fn is_due(guest: &Runtime, limit: Duration) -> bool {
    let mut descriptors = [PollFd::new(guest, PollFlags::IN)];
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut descriptors, Some(&limit)).unwrap() > 0
}

#[derive(Debug, PartialEq)]
enum Message {
    Turn,
    Key(char),
    Close,
}

fn run_host(guest: &Runtime, messages: &Receiver<Message>) -> String {
    let mut keys = String::new();
    loop {
        let message = match guest.next_deadline() {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                messages.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        match message {
            Ok(Message::Key(key)) => keys.push(key),
            Ok(Message::Turn) | Err(RecvTimeoutError::Timeout) => {
                guest.turn(Some(Duration::ZERO)).unwrap();
            }
            Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => return keys,
        }
    }
}

#[cfg(test)]
#[path = "../checks/ch12.rs"]
mod checks;
