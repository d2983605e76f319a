//! Blocking closures on a pool of threads.

mod pool;
pub(crate) mod layout;

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

pub use pool::{BlockingTask, Pool};
pub(crate) use pool::{has_closures, list_waits, totals};

/// Runs a closure that blocks or computes for long on a thread of a pool, while the loop keeps
/// running. Examples are a call into a blocking library, a large file on a slow disk, and a
/// password hash.
///
/// A task itself must not block. Until its poll returns, all other tasks, timers and sockets wait.
///
/// The closure may start before the [`BlockingTask`] is awaited. The future works under any
/// executor, and needs no runtime.
///
/// # The pool
///
/// The process has one pool for all closures of this function. It starts threads when closures need
/// them, up to 500. The environment variable `BLOCKING_MAX_THREADS` (1 to 10,000) sets another
/// limit, and is read at the first call. Further closures wait in an unbounded queue, first in,
/// first out. Programs that take work from untrusted clients should limit it with a
/// [`Semaphore`](crate::sync::Semaphore). A thread exits after ten idle seconds. If the system
/// refuses a new thread, the existing ones serve the queue. [`Pool`] is a pool with a limit of its
/// own.
///
/// The end of the program kills the closures that still run when `main` returns, so await a closure
/// that must complete.
///
/// A child process that is started in a closure and requests a signal at its parent's end (Linux's
/// `PR_SET_PDEATHSIG`) gets it when the closure's *thread* exits. Start such a child on
/// [a thread that lives long enough](crate::process#a-child-that-dies-with-its-parent).
///
/// # Panics
///
/// Panics if the pool has no thread and the system refuses the first one.
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
/// A panic propagates to the task that awaits the closure. A task of its own turns it into a value:
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
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> BlockingTask<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // In a box, because debug builds copy arguments that are passed by value on the stack, once for
    // each function on the way into the pool and out of it.
    let f = Box::new(f);
    match pool().run(f) {
        Ok(task) => task,
        Err(error) => panic!("can't start a thread for a blocking closure: {error}"),
    }
}

/// Enough for closures that wait for one another, and for slow disks. The number and the variable's
/// name come from the crate `blocking`, which operators know.
const MAX_THREADS: usize = 500;

/// Longer than the pauses of a busy program. Starting a thread costs about 20 µs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get().unwrap_or_else(|| {
        // Before the lock is taken, so that a fork is unlikely to find it locked.
        let limit = env::var("BLOCKING_MAX_THREADS").ok();
        let limit = limit.and_then(|number| number.parse::<usize>().ok());
        let max_threads = limit.map_or(MAX_THREADS, |number| number.clamp(1, 10_000));
        let pool = Pool::new("windlass-blocking", max_threads, IDLE_TIMEOUT);
        POOL.get_or_init(|| pool)
    })
}
