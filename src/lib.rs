//! A single-threaded async runtime made to be embedded: one drum that hauls many ropes.
//!
//! A processor is thousands of times faster than the disks and networks it waits for. A thread
//! that blocks does nothing else meanwhile, and a thread for each user spends the machine on
//! switching and memory. The other way is to issue the request, to go on with other work, and to
//! handle the answer when it comes. That is a loop that reads messages and handles them, each
//! quickly, or the whole program "does not respond". Coroutines make it pleasant to write: a
//! function stops in the middle and goes on later, on one thread, so that plain `Rc` and `Cell`
//! are all it takes to share. Several cores are used by several processes, each with its own loop.
//!
//! windlass is that idea, whole, on the futures of Rust's std.
//!
//! ```
//! use futures::{AsyncReadExt, AsyncWriteExt};
//! use windlass::net::{TcpListener, TcpStream};
//!
//! # fn main() -> std::io::Result<()> {
//! windlass::block_on(async {
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let addr = listener.local_addr()?;
//!     windlass::spawn(async move {
//!         while let Ok((stream, _)) = listener.accept().await {
//!             let echo = async move { futures::io::copy(&stream, &mut &stream).await };
//!             windlass::spawn(echo).detach();
//!         }
//!     })
//!     .detach();
//!
//!     let mut stream = TcpStream::connect(addr).await?;
//!     stream.write_all(b"ahoy").await?;
//!     let mut reply = [0; 4];
//!     stream.read_exact(&mut reply).await?;
//!     assert_eq!(&reply, b"ahoy");
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # The whole thing on one page
//!
//! ```text
//!            windlass            one expression:  reactor.block_on(executor.run(main))
//!            ┌────┴───────────────────────┐
//!   windlass-executor             windlass-reactor
//!   tasks, run queue, wakers      readiness, timers, leaf futures:
//!   Knows no operating system.    TcpStream, Sleep, ... Knows no executor.
//!            └── std::future::Future + std::task::Waker: all that they share ──┘
//! ```
//!
//! [`block_on`] is that expression, and what it expands to is this loop:
//!
//! ```text
//! loop {
//!     // The executor's half: `executor.run(main)` is a future. Its poll is
//!     for each ready task, first in, first out, 256 at most {
//!         poll it                       // until it ends in a leaf future that isn't ready:
//!     }                                 // that has left the task's waker with its source
//!
//!     // The reactor's half. Nothing is ready, so it
//!     waits for the poller              // one system call: sockets, timers, other threads
//!     wakes what has waited for that    // puts the tasks' numbers on the run queue
//! }
//! ```
//!
//! Its six steps are six functions, marked ① to ⑥ in the source: `spawn` ① puts a task on the run
//! queue, the executor ② polls it, a leaf future ③ tries its system call and leaves a waker,
//! `block_on` ④ lets the reactor turn, the turn ⑤ collects wakers and calls them, and a wake ⑥
//! puts a task on the run queue.
//!
//! # Where to go from here
//!
//! * [`spawn`] and [`Task`]: a dropped task is cancelled; a panic comes out where it's awaited.
//! * [`task`]: how tasks belong together: groups, scopes whose children borrow, asking work to
//!   stop, values of a task, and what may be cancelled when.
//! * [`net`]: TCP, UDP and Unix sockets. [`time`]: sleeping, time limits, ticks. [`signal`]: Ctrl-C
//!   and its like. [`io`]: standard streams, pipes, and [`Async`] for any other descriptor.
//! * [`fs`]: files and folders, by io_uring where there is one, and otherwise by threads.
//! * [`process`]: child processes, and their standard streams.
//! * [`Runtime`]: tasks that outlive a `block_on`, and the loop in single steps, for programs that
//!   have a loop of their own. [`Remote`]: spawning and running closures from other threads.
//! * [`spawn_blocking`]: for what has to block: its thread does, and the loop goes on.
//! * [`coroutine`]: functions that stop in the middle, hand a value out, and go on with a value
//!   handed in; with or without I/O in between.
//! * [`workers`](mod@workers): many cores, by several processes or threads, each with its own loop.
//! * [`sync`]: channels and locks that stay on one thread, and when a lock is needed at all.
//! * Combinators (`join!`, `select!`, streams) are those of the
//!   [`futures`](https://docs.rs/futures) crate. Channels between threads are those of any crate.
//!
//! # Fork
//!
//! A process that is forked and goes on without `exec` has none of its parent's threads, and shares
//! the kernel objects of its parent's reactors. [`block_on`], [`Runtime::new`], [`spawn_blocking`],
//! [`Pool`]s and [`fs`] start afresh in the child, on each thread, also on the one that forked.
//!
//! An inherited thing gives an error instead of reaching into the parent: a [`Runtime`] in each
//! turn (its `block_on` panics with that error), a socket where it would have to wait, a file
//! operation in flight, a child process, a signal listener. A [`BlockingTask`] panics. All of them
//! may be dropped in the child; that neither unregisters the parent's sockets nor kills its
//! children.
//!
//! Inside of a task the inherited loop is still running, so `block_on` panics as it does in each
//! task. There, make a `Runtime`, or use another thread, and end the child without returning into
//! the loop. In a program with other threads, what the system says about `fork` and threads holds.

mod runtime;
mod blocking;
pub mod coroutine;
pub mod fs;
pub mod sync;
pub mod task;
pub mod io;
pub mod process;
pub mod signal;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod workers;

pub use blocking::{BlockingTask, Pool, spawn_blocking};
pub use runtime::{Builder, Remote, RemoteError, RemoteTask, Runtime, Turn};
pub use windlass_executor::{Panic, Task, YieldNow, spawn, spawn_at, yield_now};
pub use windlass_reactor::{Async, Readable, Writable};
pub use windlass_reactor::{completion, net, time};
pub use workers::workers;

use std::future::Future;
use std::pin::pin;

use runtime::BlockOn;

#[cfg(doctest)]
#[doc = include_str!("../tests/must_not_compile.md")]
struct MustNotCompile;

/// The README's server compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Runs a future and the tasks that it spawns until the future completes. The remaining tasks are
/// then dropped. A [`Runtime`] keeps them.
///
/// # Panics
///
/// Panics inside a task, because it would stop the loop that the future may be waiting for. Panics
/// if the runtime cannot be created, for example because the process is out of file descriptors;
/// [`Runtime::new`] returns that as an error. If the future panics, the panic propagates to the
/// caller.
///
/// # Examples
///
/// ```
/// let answer = windlass::block_on(async {
///     let six = windlass::spawn(async { 6 });
///     six.await * 7
/// });
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn block_on<F: Future>(future: F) -> F::Output {
    assert!(
        !windlass_executor::in_task(),
        "`block_on` inside a task would stop all other tasks: `.await` the future there, or \
         `spawn` it"
    );
    match Runtime::builder().build_unwatched() {
        Ok(runtime) => {
            let block_on = BlockOn::new(&runtime);
            let future = pin!(future);
            block_on.run(future)
        }
        Err(error) => panic!("can't create a runtime: {error}"),
    }
}
