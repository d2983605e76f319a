//! What the supervisor says on standard error.
//!
//! A write there blocks while a pipe is full that nobody reads, while a terminal is stopped, or
//! while a disk hangs. `O_NONBLOCK` would help only in some of these cases, and it belongs to the
//! open file description, which other programs share. So a thread writes, and the supervisor only
//! appends to a bounded queue. When the queue is full, messages are dropped and counted.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How many bytes of messages may wait: the figures of 1,024 workers fit.
const ROOM: usize = 512 * 1024;

/// How long the end of the supervision waits for messages that aren't written yet.
const FLUSH_LIMIT: Duration = Duration::from_millis(250);

/// A clone writes to the same queue. The last of them to be dropped ends the thread.
#[derive(Clone)]
pub(super) struct Outlet {
    owner: Rc<Owner>,
}

struct Owner {
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
    /// Messages for which there was no room, and which the reader doesn't know of yet.
    dropped: u64,
    /// Taken out of the queue, and not completely written.
    is_writing: bool,
    has_thread: bool,
    is_closed: bool,
}

impl Outlet {
    pub(super) fn new() -> Outlet {
        let outlet = Outlet {
            owner: Rc::new(Owner {
                shared: Arc::new(Shared {
                    queue: Mutex::default(),
                    changed: Condvar::new(),
                }),
            }),
        };
        outlet.start_thread(); // now, since later there may be no thread left
        outlet
    }

    /// Writes a line, soon. Never blocks.
    pub(super) fn say(&self, text: &str) {
        let shared = &self.owner.shared;
        shared.lock().push(text);
        shared.changed.notify_all();
        self.start_thread();
    }

    /// If the system refuses the thread, the messages wait in the queue until the next attempt.
    fn start_thread(&self) {
        let shared = &self.owner.shared;
        if shared.lock().has_thread {
            return;
        }
        let theirs = shared.clone();
        let thread = thread::Builder::new().name("windlass-messages".into());
        let started = thread.spawn(move || theirs.write_all()).is_ok();
        shared.lock().has_thread = started;
    }
}

impl Drop for Owner {
    /// Blocks until all messages are written, but not for long.
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
    /// A panic under this lock can't leave anything half done.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the thread.
    fn write_all(&self) {
        while let Some(message) = self.next() {
            // If standard error is closed, nobody reads it.
            let _ = write(message.as_bytes());
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
        if self.bytes + text.len() > ROOM {
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

    /// At the place of the messages that are missing.
    fn report_dropped(&mut self) {
        match std::mem::take(&mut self.dropped) {
            0 => {}
            count => self.append(&format!(
                "{count} messages were dropped here, since standard error was not read"
            )),
        }
    }

    fn append(&mut self, text: &str) {
        let message = format!("windlass: {text}\n");
        self.bytes += message.len();
        self.messages.push_back(message);
    }
}

/// In one piece, since workers write there as well. Without the lock of std's `Stderr`, for which
/// the rest of the program would wait while this blocks.
#[cfg(unix)]
fn write(mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::io::Errno;
    let stderr = rustix::stdio::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            // Somebody else has made the open file description non-blocking.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn write(bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut io::stderr(), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_room_are_counted_where_they_are_missing() {
        let mut queue = Queue::default();
        let long = "x".repeat(ROOM - 100);
        for text in ["first", &long, &long, &long] {
            queue.push(text);
        }
        assert_eq!(queue.pop().unwrap(), "windlass: first\n");
        assert!(queue.pop().unwrap().len() > long.len());
        queue.push("second");
        let told = queue.pop().unwrap();
        assert!(
            told.starts_with("windlass: 2 messages were dropped here"),
            "{told}"
        );
        assert_eq!(queue.pop().unwrap(), "windlass: second\n");
        assert_eq!((queue.pop(), queue.bytes), (None, 0));
    }

    #[test]
    fn dropped_messages_are_reported_also_if_none_follows() {
        let mut queue = Queue::default();
        queue.push(&"x".repeat(ROOM));
        queue.push(&"x".repeat(ROOM));
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
