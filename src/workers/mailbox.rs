//! The queue of messages of one receiver, in the parent.
//!
//! Each receiver has its own queue. All messages of a sender share one channel, so waiting for
//! space at one receiver would delay the messages to all others. Instead, a message that finds the
//! queue full is dropped. A slow receiver loses only its own messages.

use std::cell::Cell;
use std::rc::Rc;

use super::channel::{Frame, FrameSender};
use crate::sync::{Semaphore, mpsc};

/// Capacity of a queue in bytes.
pub(super) const CAPACITY: usize = 4 * 1024 * 1024;

/// Bytes that a message is charged in addition to its body.
const OVERHEAD: usize = 64;

/// The sending half.
pub(super) struct Mailbox<T> {
    queue: mpsc::UnboundedSender<(T, usize)>,
    /// One permit per free byte. Closed when the receiver is dropped.
    free_bytes: Rc<Semaphore>,
    /// A wait for space has timed out, and no message was queued since.
    pub(super) is_stuck: Cell<bool>,
}

/// The receiving half.
pub(super) struct MailboxReceiver<T> {
    queue: mpsc::Receiver<(T, usize)>,
    free_bytes: Rc<Semaphore>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PushResult {
    Queued,
    Full,
    /// The receiver was dropped.
    Closed,
}

pub(super) fn mailbox<T>() -> (Rc<Mailbox<T>>, MailboxReceiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let free_bytes = Rc::new(Semaphore::new(CAPACITY));
    let mailbox = Mailbox {
        queue: sender,
        free_bytes: free_bytes.clone(),
        is_stuck: Cell::new(false),
    };
    let outbox = MailboxReceiver {
        queue: receiver,
        free_bytes,
    };
    (Rc::new(mailbox), outbox)
}

impl<T> Mailbox<T> {
    /// Queues a message if there is space. `body` is the length of the message's body.
    pub(super) fn push(&self, message: T, body: usize) -> PushResult {
        let size = body + OVERHEAD;
        let Ok(permit) = self.free_bytes.try_acquire(size) else {
            return match self.free_bytes.is_closed() {
                true => PushResult::Closed,
                false => PushResult::Full,
            };
        };
        permit.forget();
        self.enqueue(message, size)
    }

    /// Waits for space, then queues the message. A dropped future has queued nothing.
    pub(super) async fn send(&self, message: T, body: usize) -> PushResult {
        let size = body + OVERHEAD;
        match self.free_bytes.acquire(size).await {
            Ok(permit) => permit.forget(),
            Err(_) => return PushResult::Closed,
        }
        self.enqueue(message, size)
    }

    fn enqueue(&self, message: T, size: usize) -> PushResult {
        self.is_stuck.set(false);
        match self.queue.send((message, size)) {
            Ok(()) => PushResult::Queued,
            Err(_) => PushResult::Closed,
        }
    }

    /// Waits until the queue is empty, or the receiver was dropped.
    pub(super) async fn wait_until_empty(&self) {
        let _ = self.free_bytes.acquire(CAPACITY).await;
    }
}

impl<T> MailboxReceiver<T> {
    pub(super) async fn recv(&mut self) -> Option<T> {
        let (message, size) = self.queue.recv().await?;
        self.free_bytes.add_permits(size);
        Some(message)
    }
}

impl<T> Drop for MailboxReceiver<T> {
    fn drop(&mut self) {
        self.free_bytes.close();
    }
}

/// Forwards queued messages to a worker at the worker's pace.
pub(super) async fn forward(mut messages: MailboxReceiver<Frame>, worker: FrameSender) {
    while let Some(frame) = messages.recv().await {
        if worker.send(frame).await.is_err() {
            return; // the worker has exited
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
        while mailbox.push(taken, body) == PushResult::Queued {
            taken += 1;
        }
        assert_eq!(taken, CAPACITY / (body + OVERHEAD));
        assert_eq!(mailbox.push(taken, body), PushResult::Full);
        assert_eq!(crate::block_on(outbox.recv()), Some(0));
        assert_eq!(mailbox.push(taken, body), PushResult::Queued);
        drop(outbox);
        assert_eq!(mailbox.push(0, 0), PushResult::Closed);
    }
}
