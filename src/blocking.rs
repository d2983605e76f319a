//! What has to block: closures on a pool of threads.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Runs a closure that blocks, or computes for long, on a thread of its own, while the loop goes
/// on: a call of a library that knows nothing of async, a large file on a slow disk, a password's
/// hash.
///
/// A task must not do that itself: until it has returned, no other runs, and no timer and no socket
/// is served.
///
/// The closure may begin at once, whether or not the [`BlockingTask`] is awaited. It needs no
/// runtime: the future may be awaited under any executor.
///
/// # The pool
///
/// It's that of the [`blocking`](https://docs.rs/blocking) crate, one for the whole process.
/// Without a call of this there are no threads. They are started as closures need them, 500 at
/// most; the environment variable `BLOCKING_MAX_THREADS` (1 to 10,000), read at the first closure,
/// says another number. Further closures wait in line, first in, first out; the line has no limit,
/// so whoever takes work from strangers puts a [`Semaphore`](crate::sync::Semaphore) in front.
/// Threads stay once they were started, and look for work twice a second. Where the system refuses
/// one, those that there are go on with the line.
///
/// At the end of the program nobody waits for closures: what still runs when `main` returns ends
/// wherever it is. Await what must be finished.
///
/// # Examples
///
/// ```
/// use std::fs;
/// use windlass::{block_on, spawn_blocking};
///
/// block_on(async {
///     let text = spawn_blocking(|| fs::read_to_string("Cargo.toml")).await?;
///     assert!(text.contains("windlass"));
///     std::io::Result::Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A panic comes out where the closure is awaited. In a task of its own it's a value:
///
/// ```
/// use windlass::{block_on, spawn, spawn_blocking};
///
/// block_on(async {
///     let blocked = spawn(spawn_blocking(|| panic!("no rope left")));
///     let panic = blocked.catch().await.unwrap_err();
///     assert_eq!(panic.message(), Some("no rope left"));
/// });
/// ```
pub fn spawn_blocking<F, T>(f: F) -> BlockingTask<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    BlockingTask {
        task: ::blocking::unblock(f),
    }
}

/// A closure that [`spawn_blocking`] has given to a thread: a future of what it returns. May be
/// awaited on any thread.
///
/// # Panics
///
/// If the closure has panicked, with its panic.
///
/// # Cancel safety
///
/// Nothing can stop a thread. If this is dropped, a closure that has begun runs to its end, and
/// what it returns is dropped on its thread. One that still waits for a thread is cancelled: it
/// never runs, and is dropped when its turn comes.
#[must_use = "a closure that has not begun is cancelled when this is dropped: `.await` or \
              `.detach()` it"]
pub struct BlockingTask<T> {
    task: ::blocking::Task<T>,
}

impl<T> BlockingTask<T> {
    /// Lets the closure run, also if it has not begun. What it returns is dropped on its thread; a
    /// panic is told by the panic hook and by nothing else.
    ///
    /// ```
    /// use std::sync::mpsc;
    ///
    /// let (sender, receiver) = mpsc::channel();
    /// windlass::spawn_blocking(move || sender.send("hauled")).detach();
    /// assert_eq!(receiver.recv(), Ok("hauled"));
    /// ```
    pub fn detach(self) {
        self.task.detach();
    }
}

impl<T> Future for BlockingTask<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for BlockingTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingTask")
            .field("finished", &self.task.is_finished())
            .finish()
    }
}
