//! The supervisor's log on standard error.
//!
//! A write to standard error blocks while a pipe is full, while a terminal is stopped, or while a
//! disk hangs. `O_NONBLOCK` helps only in some of these cases, and it belongs to the open file
//! description, which is shared with other programs. So a thread does the writes, and the
//! supervisor only appends to a bounded queue. When the queue is full, messages are dropped and
//! counted.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::io::write_stderr;

/// Capacity of the queue in bytes. The metrics of 1,024 workers fit.
const CAPACITY: usize = 512 * 1024;

/// Time limit for writing the queued messages at the end of the supervision.
const FLUSH_LIMIT: Duration = Duration::from_millis(250);

/// A clone appends to the same queue. The thread ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Log {
    handle: Rc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    /// Never locked during a write.
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<String>,
    bytes: usize,
    /// Messages dropped since the last report of dropped messages.
    dropped: u64,
    /// A message was taken out of the queue, and its write is in flight.
    is_writing: bool,
    has_thread: bool,
    is_closed: bool,
}

impl Log {
    pub(super) fn new() -> Log {
        let log = Log {
            handle: Rc::new(Handle {
                shared: Arc::new(Shared {
                    queue: Mutex::default(),
                    changed: Condvar::new(),
                }),
            }),
        };
        log.start_thread(); // before the process can run out of threads
        log
    }

    /// Queues a line. Never blocks.
    pub(super) fn write(&self, text: impl AsRef<str>) {
        let shared = &self.handle.shared;
        shared.lock().push(text.as_ref());
        shared.changed.notify_all();
        self.start_thread();
    }

    /// If the system refuses the thread, the messages stay queued until the next attempt.
    fn start_thread(&self) {
        let shared = &self.handle.shared;
        if shared.lock().has_thread {
            return;
        }
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("windlass-log".into());
        let started = thread.spawn(move || theirs.write_all()).is_ok();
        shared.lock().has_thread = started;
    }
}

impl Drop for Handle {
    /// Blocks until all messages are written, for at most `FLUSH_LIMIT`.
    fn drop(&mut self) {
        let Shared { changed, .. } = &*self.shared;
        let is_busy = |queue: &mut Queue| queue.has_thread && queue.is_busy();
        let waited = changed.wait_timeout_while(self.shared.lock(), FLUSH_LIMIT, is_busy);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.is_closed = true;
        drop(queue);
        changed.notify_all();
    }
}

impl Shared {
    /// A panic under this lock leaves the queue consistent, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread.
    fn write_all(&self) {
        while let Some(message) = self.next() {
            // Fails if the reader has closed the pipe, which loses the message.
            let _ = write_stderr(message.as_bytes());
        }
    }

    fn next(&self) -> Option<String> {
        let mut queue = self.lock();
        queue.is_writing = false;
        self.changed.notify_all();
        let is_idle = |queue: &mut Queue| !queue.is_busy() && !queue.is_closed;
        let waited = self.changed.wait_while(queue, is_idle);
        queue = waited.unwrap_or_else(PoisonError::into_inner);
        let next = queue.pop();
        queue.is_writing = next.is_some();
        next
    }
}

impl Queue {
    fn is_busy(&self) -> bool {
        self.is_writing || self.dropped > 0 || !self.messages.is_empty()
    }

    fn push(&mut self, text: &str) {
        if self.bytes + text.len() > CAPACITY {
            self.dropped += 1;
            return;
        }
        self.report_dropped();
        self.append(text);
    }

    fn pop(&mut self) -> Option<String> {
        if self.messages.is_empty() {
            self.report_dropped();
        }
        let next = self.messages.pop_front()?;
        self.bytes -= next.len();
        Some(next)
    }

    /// Reports dropped messages at their position in the log.
    fn report_dropped(&mut self) {
        match std::mem::take(&mut self.dropped) {
            0 => {}
            count => self.append(&format!(
                "{count} messages were dropped here because standard error was not read"
            )),
        }
    }

    fn append(&mut self, text: &str) {
        let message = format!("windlass: {text}\n");
        self.bytes += message.len();
        self.messages.push_back(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_messages_are_counted_at_their_position() {
        let mut queue = Queue::default();
        let long = "x".repeat(CAPACITY - 100);
        for text in ["first", &long, &long, &long] {
            queue.push(text);
        }
        assert_eq!(queue.pop().unwrap(), "windlass: first\n");
        assert!(queue.pop().unwrap().len() > long.len());
        queue.push("second");
        let report = queue.pop().unwrap();
        assert!(
            report.starts_with("windlass: 2 messages were dropped here"),
            "{report}"
        );
        assert_eq!(queue.pop().unwrap(), "windlass: second\n");
        assert_eq!((queue.pop(), queue.bytes), (None, 0));
    }

    #[test]
    fn dropped_messages_are_reported_when_the_queue_is_empty() {
        let mut queue = Queue::default();
        queue.push(&"x".repeat(CAPACITY));
        queue.push(&"x".repeat(CAPACITY));
        queue.pop().unwrap();
        assert!(queue.is_busy());
        assert!(
            queue
                .pop()
                .unwrap()
                .starts_with("windlass: 1 messages were dropped")
        );
        assert!(!queue.is_busy());
    }
}
