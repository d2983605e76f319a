//! What has to block: closures on a pool of threads.

use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use windlass_reactor::{BlockingTask, Pool};

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
/// There's one for the whole process, and for nothing but the closures given to this. Without a
/// call of it there are no threads. They are started as closures need them, 500 at
/// most; the environment variable `BLOCKING_MAX_THREADS` (1 to 10,000), read at the first closure,
/// says another number. Further closures wait in line, first in, first out; the line has no limit,
/// so whoever takes work from strangers puts a [`Semaphore`](crate::sync::Semaphore) in front.
/// A thread that has had nothing to do for ten seconds ends. Where the system refuses one, those
/// that there are go on with the line. [`Pool`] is for who needs one with a limit of its own.
///
/// At the end of the program nobody waits for closures: what still runs when `main` returns ends
/// wherever it is. Await what must be finished.
///
/// A child process that is started in a closure and asks for a signal when its parent ends (Linux's
/// `PR_SET_PDEATHSIG`) gets it when the closure's *thread* ends. Start such a child on a thread
/// that lives as long: [more](crate::process#a-child-that-dies-with-its-parent).
///
/// # Panics
///
/// If there's no thread, and the system refuses the first.
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
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> BlockingTask<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // In a box, since debug builds copy on the stack what a function takes by value, once for each
    // function on the way into the pool and out of it.
    let f = Box::new(f);
    match pool().run(f) {
        Ok(task) => task,
        Err(error) => panic!("can't start a thread for what blocks: {error}"),
    }
}

/// Enough for closures that wait for one another, and for slow disks; the number is that of the
/// crate `blocking`, as is the variable's name, which those who run programs know.
const MOST_THREADS: usize = 500;

/// Longer than the pauses of a program that is busy: to start a thread costs some 20 µs.
const LINGER: Duration = Duration::from_secs(10);

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get().unwrap_or_else(|| {
        // Before the lock is taken, so that hardly any fork finds that held.
        let wanted = env::var("BLOCKING_MAX_THREADS").ok();
        let wanted = wanted.and_then(|number| number.parse::<usize>().ok());
        let most_threads = wanted.map_or(MOST_THREADS, |number| number.clamp(1, 10_000));
        let pool = Pool::new("windlass-blocking", most_threads, LINGER);
        POOL.get_or_init(|| pool)
    })
}
