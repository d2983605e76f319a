//! The parent's queue of messages for one receiver.
//!
//! Each receiver has a queue of its own. The messages of a sender share one link, so to wait for
//! room at one receiver would delay the messages to all others. Instead, a message that finds the
//! queue full is dropped. A slow receiver loses its own messages only.

use std::cell::Cell;
use std::rc::Rc;

use super::channel::{Frame, Outgoing};
use crate::sync::{Semaphore, mpsc};

/// Capacity of a queue in bytes.
pub(super) const ROOM: usize = 4 * 1024 * 1024;

/// Bytes that a message is charged in addition to its body.
const OVERHEAD: usize = 64;

/// The sending half.
pub(super) struct Mailbox<T> {
    queue: mpsc::UnboundedSender<(T, usize)>,
    /// One permit per free byte. Closed when the receiver is dropped.
    room: Rc<Semaphore>,
    /// A wait for room has timed out, and no message was queued since.
    pub(super) is_stuck: Cell<bool>,
}

/// The receiving half.
pub(super) struct Outbox<T> {
    queue: mpsc::Receiver<(T, usize)>,
    room: Rc<Semaphore>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pushed {
    Queued,
    Full,
    /// The receiver was dropped.
    Gone,
}

pub(super) fn mailbox<T>() -> (Rc<Mailbox<T>>, Outbox<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Rc::new(Semaphore::new(ROOM));
    let mailbox = Mailbox {
        queue: sender,
        room: room.clone(),
        is_stuck: Cell::new(false),
    };
    let outbox = Outbox {
        queue: receiver,
        room,
    };
    (Rc::new(mailbox), outbox)
}

impl<T> Mailbox<T> {
    /// Queues a message if there is room. `body` is the length of the message's body.
    pub(super) fn push(&self, message: T, body: usize) -> Pushed {
        let size = body + OVERHEAD;
        let Ok(permit) = self.room.try_acquire(size) else {
            return match self.room.is_closed() {
                true => Pushed::Gone,
                false => Pushed::Full,
            };
        };
        permit.forget();
        self.is_stuck.set(false);
        match self.queue.send((message, size)) {
            Ok(()) => Pushed::Queued,
            Err(_) => Pushed::Gone,
        }
    }

    /// Waits for room, then queues the message. A dropped future has queued nothing.
    pub(super) async fn send(&self, message: T, body: usize) -> Pushed {
        let size = body + OVERHEAD;
        match self.room.acquire(size).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Pushed::Gone,
        }
        self.is_stuck.set(false);
        match self.queue.send((message, size)) {
            Ok(()) => Pushed::Queued,
            Err(_) => Pushed::Gone,
        }
    }

    /// Waits until the queue is empty, or the receiver was dropped.
    pub(super) async fn emptied(&self) {
        let _ = self.room.acquire(ROOM).await;
    }
}

impl<T> Outbox<T> {
    pub(super) async fn recv(&mut self) -> Option<T> {
        let (message, size) = self.queue.recv().await?;
        self.room.add_permits(size);
        Some(message)
    }
}

impl<T> Drop for Outbox<T> {
    fn drop(&mut self) {
        self.room.close();
    }
}

/// Forwards queued messages to a worker at the worker's pace.
pub(super) async fn forward(mut messages: Outbox<Frame>, worker: Outgoing) {
    while let Some(frame) = messages.recv().await {
        if worker.send(frame).await.is_err() {
            return; // it has ended
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_has_room_again_after_a_receive() {
        let (mailbox, mut outbox) = mailbox();
        let body = 64 * 1024;
        let mut taken = 0;
        while mailbox.push(taken, body) == Pushed::Queued {
            taken += 1;
        }
        assert_eq!(taken, ROOM / (body + OVERHEAD));
        assert_eq!(mailbox.push(taken, body), Pushed::Full);
        assert_eq!(crate::block_on(outbox.recv()), Some(0));
        assert_eq!(mailbox.push(taken, body), Pushed::Queued);
        drop(outbox);
        assert_eq!(mailbox.push(0, 0), Pushed::Gone);
    }
}
